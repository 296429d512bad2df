#!/bin/sh
# Makes prompt.wasm, which `reenact` carries, from guest-examples/prompt:
#
#     sh templates/prompt/build.sh
#
# Panics name the source files of the crates; those names are made to say nothing
# of the machine. The same toolchain makes the same bytes again.
set -eu
cd "$(dirname "$0")/../../guest-examples"
sources=${CARGO_HOME:-$HOME/.cargo}/registry/src

flags=
for registry in "$sources"/*; do
    flags="$flags --remap-path-prefix=$registry=crates"
done
RUSTFLAGS="$flags --remap-path-prefix=$(pwd)=guests" cargo build --release --locked \
    --target wasm32-wasip2 --target-dir target/templates -p prompt
cp target/templates/wasm32-wasip2/release/prompt.wasm ../templates/prompt/prompt.wasm
