"""Teaches schemathesis to send the bodies of this API that are no JSON."""

import schemathesis


@schemathesis.serializer("application/wasm")
def bytes_as_they_are(context, value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
