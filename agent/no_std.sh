#!/bin/sh
# Proves that the agent needs neither std nor a heap: it is built for a microcontroller that has no
# std, and linked there into a library without an allocator. A counter-example must fail.
set -eu
cd "$(dirname "$0")/.."
target=thumbv7m-none-eabi
host=${CARGO_TARGET_DIR:-target}/release
out=${CARGO_TARGET_DIR:-target}/$target/release
rustup target list --installed | grep -qx "$target" || rustup target add "$target"
cargo build --locked --release --package ingot-agent --lib --target "$target"

probe=$(mktemp -d)
trap 'rm -rf "$probe"' EXIT
cat >"$probe/agent.rs" <<'RUST'
#![no_std]
use ingot_agent::{Batch, Decoder, Reading, SeriesId};
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! { loop {} }
#[unsafe(no_mangle)]
pub fn push(batch: &mut Batch<8, 1, 5120>, reading: &Reading) -> bool { batch.push(SeriesId(0), reading).is_ok() }
#[unsafe(no_mangle)]
pub fn decoder() -> Decoder<8, 1> { Decoder::new() }
RUST
{ cat "$probe/agent.rs"; echo 'extern crate alloc;'; } >"$probe/heap.rs"

# The host's folder holds the derive macros that the agent was built with.
link() {
    rustc --edition 2024 --crate-type staticlib --target "$target" -C panic=abort -o "$probe/lib.a" \
        --extern ingot_agent="$out/libingot_agent.rlib" -L dependency="$out/deps" -L dependency="$host/deps" "$1"
}
link "$probe/agent.rs"
if link "$probe/heap.rs" 2>"$probe/error"; then
    echo "no_std: a library with a heap was linked too, so this check proves nothing" >&2
    exit 1
fi
grep -q "no global memory allocator" "$probe/error" || { cat "$probe/error" >&2; exit 1; }
echo "no_std: ingot-agent links for $target without std and without an allocator"
