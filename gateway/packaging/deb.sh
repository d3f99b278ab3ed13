#!/usr/bin/env bash
# Builds ingot-gateway's Debian package for this machine or for a board, and prints the package's path.
#   gateway/packaging/deb.sh [host|aarch64|armv7]
# aarch64: 64-bit systems on a Raspberry Pi 3 and later; armv7: 32-bit systems on a Pi 2 and later.
# PROFILE=quick builds without optimisation, for tests. The binary needs glibc 2.34: Debian 12, Ubuntu 22.04.
set -euo pipefail
cd "$(dirname "$0")/../.."

board=${1:-host}
case $board in
    host) target=$(rustc --version --verbose | sed -n 's/^host: //p') tools= libc= ;;
    aarch64) target=aarch64-unknown-linux-gnu tools=aarch64-linux-gnu libc=arm64 ;;
    armv7) target=armv7-unknown-linux-gnueabihf tools=arm-linux-gnueabihf libc=armhf ;;
    *) echo "deb.sh: wants host, aarch64 or armv7 and not $board" >&2 && exit 2 ;;
esac

if ! command -v cargo-deb >/dev/null; then
    echo "deb.sh: cargo-deb is missing: cargo install --locked cargo-deb@3.8.0 --no-default-features" >&2
    exit 1
fi
if [ -n "$tools" ]; then
    if ! command -v "$tools-gcc" >/dev/null; then
        echo "deb.sh: $tools-gcc is missing: apt-get install gcc-$tools libc6-dev-$libc-cross" >&2
        exit 1
    fi
    rustup target list --installed | grep -qx "$target" || rustup target add "$target" >&2
    upper=${target^^}
    export "CARGO_TARGET_${upper//-/_}_LINKER=$tools-gcc"
    export "CC_${target//-/_}=$tools-gcc" "AR_${target//-/_}=$tools-ar" # for ring's C and assembly
    set -- --target "$target"
else
    set --
fi
# A package for tests must not be taken for one to ship; and cargo-deb empties its own target/debian.
profile=${PROFILE:-release}
out=${CARGO_TARGET_DIR:-target}/packages
[ "$profile" = release ] || out=$out-$profile
mkdir -p "$out"
# Cargo has stripped the binary already; the host's strip cannot read a board's.
cargo deb --quiet --locked --package ingot-gateway --profile "$profile" --no-strip --output "$out/" "$@"
