#!/usr/bin/env bash
# Builds the zip of the functions for arm64 and prints its path: target/lambda/ingot-processor.zip.
#   infra/package.sh [CONTRACTS]
# CONTRACTS is a folder of contracts (*.yaml, and the CSV beside them) that go into the zip; by default contracts/.
# The same program and contracts give the same zip, byte for byte. PROFILE=quick builds without optimisation, for tests.
# The runtime provided.al2023 has glibc 2.34, Debian's cross compiler links against a later one: glibc.c makes the program
# ask for what the runtime has; what it really asks for is looked at, and too much is refused here and not at the first
# invocation.
set -euo pipefail
contracts=$(realpath "${1:-$(dirname "$0")/../contracts}")
cd "$(dirname "$0")/.."

glibc_max=2.34
target=aarch64-unknown-linux-gnu tools=aarch64-linux-gnu
fail() { echo "package.sh: $1" >&2 && exit 1; }

compgen -G "$contracts/*.yaml" >/dev/null || fail "there is no contract (*.yaml) in $contracts"
command -v "$tools-gcc" >/dev/null || fail "$tools-gcc is missing: apt-get install gcc-$tools libc6-dev-arm64-cross"
rustup target list --installed | grep -qx "$target" || rustup target add "$target" >&2

profile=${PROFILE:-release}
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$tools-gcc
export CC_aarch64_unknown_linux_gnu=$tools-gcc AR_aarch64_unknown_linux_gnu=$tools-ar # for C in dependencies
mkdir -p target/lambda
versions=$PWD/target/lambda/glibc.o
"$tools-gcc" -O2 -fno-builtin -c infra/glibc.c -o "$versions"
cargo rustc --locked --package ingot-processor --bin ingot-processor --profile "$profile" --target "$target" \
    -- -C link-arg="$versions" >&2
built=${CARGO_TARGET_DIR:-target}
program=$built/$target/$profile/ingot-processor

# What the dynamic linker of the runtime must find.
glibc=$("$tools-objdump" -T "$program" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -uV | tail -n 1)
if [ "$(printf '%s\n' "$glibc" $glibc_max | sort -V | tail -n 1)" != $glibc_max ]; then
    symbols=$("$tools-objdump" -T "$program" | grep -F "GLIBC_$glibc)" | awk '{print $NF}' | head -n 5 | xargs)
    fail "the program needs glibc $glibc ($symbols), provided.al2023 has $glibc_max: give them their first version in infra/glibc.c"
fi
libraries=$("$tools-objdump" -p "$program" | awk '$1 == "NEEDED" {print $2}')
foreign=$(grep -vxE 'lib(c|m|gcc_s|pthread|dl|rt)\.so\.[0-9]+|ld-linux-aarch64\.so\.1' <<<"$libraries" || true)
[ -z "$foreign" ] || fail "the program needs libraries that provided.al2023 may not have: $(xargs <<<"$foreign")"

zip=target/lambda/ingot-processor.zip
python3 - "$zip" "$program" "$contracts" <<'PYTHON'
import sys
import zipfile
from pathlib import Path

path, program, contracts = map(Path, sys.argv[1:])
files = {"bootstrap": (program, 0o755)}
beside = sorted(file for file in contracts.iterdir() if file.suffix in (".yaml", ".csv"))
files |= {f"contracts/{file.name}": (file, 0o644) for file in beside}
part = path.with_suffix(".part")
with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
    for name, (file, mode) in files.items():
        # Neither time nor owner: only content and mode.
        entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
        entry.external_attr = (0o100000 | mode) << 16
        entry.create_system, entry.compress_type = 3, zipfile.ZIP_DEFLATED
        archive.writestr(entry, file.read_bytes())
part.replace(path)
whole = sum(file.stat().st_size for file, _ in files.values())
print(f"{path.stat().st_size / 1e6:.1f} MB, unpacked {whole / 1e6:.1f} MB of Lambda's 250", file=sys.stderr)
PYTHON
echo "needs glibc $glibc; $(sha256sum "$zip" | cut -d' ' -f1)" >&2
echo "$zip"
