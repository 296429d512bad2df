#!/bin/sh
# Makes the component of an agent in JavaScript, in the agent's folder: sh build.sh
#
# The packages of package-lock.json go into node_modules; what is up to date is
# not made again. Each of these can be set from outside:
NAME=${NAME:-agent}              # the module that holds the agent
TARGET=${TARGET:-target}         # where the component goes
WIT=${WIT:-wit}                  # the folder that holds agent.wit
LIBRARY=${LIBRARY:-.}            # the folder that holds reenact.js and javascript.wit
ROOT=${ROOT:-.}                  # the folder that modules may be imported from
OUTPUT=${OUTPUT:-$NAME.wasm}     # the component's name in TARGET
set -eu

for program in node npm; do
    if ! command -v "$program" >/dev/null; then
        echo "this agent needs Node.js 18 or later with npm to be built:" \
            "there is no program \`$program\`" >&2
        exit 1
    fi
done

# The checksums of all files that the given names stand for.
sums() {
    find "$@" \( -name "${TARGET##*/}" -o -name '.?*' -o -name node_modules \) -prune \
        -o -type f -exec cksum {} + | LC_ALL=C sort
}

mkdir -p "$TARGET"
packages=$(cksum <package-lock.json)
if [ "$(cat node_modules/.built 2>/dev/null)" != "$packages" ]; then
    npm ci --no-audit --no-fund
    echo "$packages" >node_modules/.built
fi

component=$TARGET/$OUTPUT
sources=$(sums . "$WIT" "$LIBRARY/reenact.js" "$LIBRARY/javascript.wit")
if [ ! -f "$component" ] || [ "$(cat "$component.built" 2>/dev/null)" != "$sources" ]; then
    world=$TARGET/$OUTPUT.wit
    mkdir -p "$world/deps"
    cp "$LIBRARY/javascript.wit" "$world/"
    cp "$WIT/agent.wit" "$world/deps/"
    node_modules/.bin/componentize-qjs --sync --module-root "$ROOT" \
        --wit "$world" --world reenact:javascript/agent --js "$NAME.js" --output "$component.new"
    mv "$component.new" "$component"
    echo "$sources" >"$component.built"
fi
