#!/usr/bin/env bash
# Compares every word of simd.h on the vector units of x86-64 and ARM: builds words.c for each unit and expects the hashes of plain C.
# On x86-64, ARM runs under qemu (Debian's qemu-user, gcc-aarch64-linux-gnu, libc6-dev-arm64-cross); elsewhere this machine's unit only.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for word in $(sed -nE 's/^SLA_WORD .*\<simd_(\w+)\(.*/\1/p' "$root/Sources/CSimd/include/simd.h"); do
    # What only tells of the unit differs between them.
    case $word in compiled_unit | multiplies_pairs | registers) continue ;; esac
    grep -q "WORD($word, " "$root/Tests/Simd/words.c" || { echo "words.c lacks $word"; exit 1; }
done

# check NAME EMULATOR FLAGS…
check() {
    clang -O2 -ffp-contract=off -Wall -Wextra -Werror -Wno-psabi -I"$root/Sources/CSimd/include" "${@:3}" \
        "$root/Tests/Simd/words.c" -lm -o "$work/words"
    $2 "$work/words" >"$work/$1"
    diff "$work/plain" "$work/$1" || { echo "$1 differs from plain C"; exit 1; }
    echo "$1: the same"
}

check plain "" -DSLA_PLAIN=1
if [ "$(uname -m)" != x86_64 ]; then
    check native "" -mcpu=native
    exit
fi
check avx2 "" -march=haswell
if grep -qw avx512bw /proc/cpuinfo; then check avx512 "" -march=skylake-avx512; fi
if grep -qw avx512_vnni /proc/cpuinfo; then check avx512-vnni "" -march=cascadelake; fi
arm=(--target=aarch64-linux-gnu -fuse-ld=lld -static)
check plain-arm qemu-aarch64 "${arm[@]}" -DSLA_PLAIN=1
check neon qemu-aarch64 "${arm[@]}" -march=armv8-a
check neon-dotprod qemu-aarch64 "${arm[@]}" -march=armv8.2-a+dotprod
check neon-i8mm qemu-aarch64 "${arm[@]}" -march=armv8.6-a
