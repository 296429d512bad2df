#!/bin/sh
# Makes the component of an agent in Python, in the agent's folder: sh build.sh
#
# The packages of requirements.txt go into an environment of their own; what is
# up to date is not made again. Each of these can be set from outside:
NAME=${NAME:-agent}              # the module that holds the agent
TARGET=${TARGET:-target}         # where the component and the environment go
WIT=${WIT:-wit}                  # the folder that holds agent.wit
LIBRARY=${LIBRARY:-.}            # the folder that holds reenact.py
OUTPUT=${OUTPUT:-$NAME.wasm}     # the component's name in TARGET
set -eu

if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    echo "this agent needs Python 3.10 or later with venv to be built: install \`python3\`" \
        "(on Debian and Ubuntu also \`python3-venv\`)" >&2
    exit 1
fi

# The checksums of all files that the given names stand for.
sums() {
    find "$@" \( -name "${TARGET##*/}" -o -name '.?*' -o -name __pycache__ \) -prune \
        -o -type f -exec cksum {} + | LC_ALL=C sort
}

environment=$TARGET/python
mkdir -p "$TARGET"
packages=$(cksum <requirements.txt)
if [ "$(cat "$environment/built" 2>/dev/null)" != "$packages" ]; then
    rm -rf "$environment"
    python3 -m venv "$environment"
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check \
        --requirement requirements.txt
    echo "$packages" >"$environment/built"
fi

component=$TARGET/$OUTPUT
sources=$(sums . "$WIT" "$LIBRARY/reenact.py" "$environment/built")
if [ ! -f "$component" ] || [ "$(cat "$component.built" 2>/dev/null)" != "$sources" ]; then
    VIRTUAL_ENV=$environment "$environment/bin/componentize-py" --quiet \
        --wit-path "$WIT" --world agent \
        componentize "$NAME" --python-path . --python-path "$LIBRARY" --output "$component.new"
    mv "$component.new" "$component"
    echo "$sources" >"$component.built"
fi
