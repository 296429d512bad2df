"""An agent that misbehaves on request: it is for trying the limits on an interpreter.

What `hostile` does in Rust as well has the same name here.
"""

import datetime
import json
import random
import secrets
import sys
import time
import uuid

from reenact import Failure, ToolError, agent, call, call_all, emit
from wit_world.imports import monotonic_clock

FOREVER = 2**53
LIST = ("files.list", {"path": ""})


@agent
def run(input):
    n = input.get("n")
    many = range(FOREVER if n is None else n)
    match input["do"]:
        case "loop":
            while True:
                pass
        case "memory":
            kept = [bytearray(1 << 20) for _ in many]
            return {"mib": len(kept)}
        case "recursion":
            return {"depth": descend(0)}
        case "compute":
            return {"value": sum(i * i for i in range(1000))}
        case "events":
            for i in many:
                emit("many", {"n": i})
            return {"events": n}
        case "tool-calls":
            return tally(attempt(*LIST) for _ in many)
        case "calls-at-once":
            return tally(call_all([LIST] * n))
        case "big-arguments":
            return tally([attempt("files.search", {"query": "x" * (n << 20)})])
        case "wrong-type":
            return "The manifest declares JSON."
        case "wrong-schema":
            return [1]
        case "fail":
            raise Failure("the agent was told to", {"deed": "fail"})
        case "throw":
            return climb(3)
        case "tool-error":
            return call("files.read", {"path": "there is none"})
        case "stdout":
            for line in range(n):
                print(f"line {line + 1} of {n}")
            print("a line for stderr", file=sys.stderr)
            return {"lines": n}
        case "pollables":
            kept = [monotonic_clock.subscribe_duration(1_000_000_000) for _ in many]
            return {"pollables": len(kept)}
        case "sleep":
            start = time.monotonic()
            time.sleep(n / 1000)
            return {"elapsed_ms": (time.monotonic() - start) * 1000}
        case "look-around":
            return look_around()


def descend(depth):
    return descend(depth + 1) + 1


def climb(rungs):
    if rungs == 0:
        raise TypeError("the sky is falling")
    return climb(rungs - 1)


def attempt(tool, arguments):
    try:
        return call(tool, arguments)
    except ToolError as error:
        return error


def tally(results):
    results = list(results)
    errors = [result for result in results if isinstance(result, ToolError)]
    return {
        "answers": len(results) - len(errors),
        "errors": len(errors),
        "last_error": errors[-1].details if errors else None,
    }


def look_around():
    begun = time.perf_counter()
    return {
        "random": {
            "random": random.random(),
            "shuffled": random.sample(range(100), 5),
            "crypto": secrets.token_hex(8),
            "uuid": str(uuid.uuid4()),
        },
        "clock": {
            "wall_ms": time.time() * 1000,
            "date_ms": datetime.datetime.now(datetime.UTC).timestamp() * 1000,
            "performance_ms": (time.perf_counter() - begun) * 1000,
            "monotonic_ms": time.monotonic() * 1000,
        },
        "hash_order": list({str(i) for i in range(20)}),
    }


class Guest(Guest):  # noqa: F821, the decorator made it
    """What the library would catch goes past it."""

    def run(self, input):
        if json.loads(input)["do"] == "throw-past-the-library":
            climb(3)
        return super().run(input)
