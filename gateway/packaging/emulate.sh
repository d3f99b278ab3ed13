#!/usr/bin/env bash
# Runs a board's program on this machine: emulate.sh aarch64|armv7 PROGRAM [ARGS…]
# The program's loader comes from the cross compiler's C library, so no foreign packages are needed.
set -euo pipefail
case $1 in
    aarch64) qemu=qemu-aarch64-static libc=/usr/aarch64-linux-gnu/lib loader=ld-linux-aarch64.so.1 ;;
    armv7) qemu=qemu-arm-static libc=/usr/arm-linux-gnueabihf/lib loader=ld-linux-armhf.so.3 ;;
    *) echo "emulate.sh: wants aarch64 or armv7 and not $1" >&2 && exit 2 ;;
esac
exec "$qemu" "$libc/$loader" --library-path "$libc" "${@:2}"
