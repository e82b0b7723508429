#!/usr/bin/env bash
# Tries what build.sh made.
#   Examples/package/test.sh launcher          the launcher's choice only, with programs that say who they are; it needs nothing that was built
#   Examples/package/test.sh [FOLDER]          the packages in FOLDER, .build/package unless it is given
# Where there is qemu-x86_64, on processors without AVX2 too. As root, with SLA_DEBIAN=FOLDER, in a Debian without Swift that is there, or that
# debootstrap puts there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
step() { printf '== %s\n' "$*"; }
same() { [ "$1" = "$2" ] || { printf 'FAILED: %s, not %s (%s)\n' "$1" "$2" "$3" >&2; exit 1; }; }

step "the launcher's choice"
mkdir -p "$work/fake/bin" "$work/fake/lib/sla"
cc -O2 -Wall -Wextra -Werror -static -o "$work/fake/bin/sla" "$here/launcher.c"
for unit in avx512 avx2 plain; do
    printf '#!/bin/sh\necho %s "$@"\n' $unit >"$work/fake/lib/sla/sla-$unit"
    chmod +x "$work/fake/lib/sla/sla-$unit"
done
launch() { "$@" 'a b' -c; }
best=plain
for unit in avx2 avx512f; do if grep -qw $unit /proc/cpuinfo; then best=${unit%f}; fi; done
if [ $best = avx512 ] && ! grep -qw avx512_vnni /proc/cpuinfo; then best=avx2; fi
same "$(launch "$work/fake/bin/sla")" "$best a b -c" "this processor"
for unit in avx512 avx2 plain; do same "$(SLA_BUILD=$unit launch "$work/fake/bin/sla")" "$unit a b -c" "SLA_BUILD=$unit"; done
ln -s "$work/fake/bin/sla" "$work/link"
same "$(launch "$work/link")" "$best a b -c" "through a link"
if command -v qemu-x86_64 >/dev/null; then
    same "$(launch qemu-x86_64 -cpu Nehalem "$work/fake/bin/sla")" "plain a b -c" "Nehalem"
    same "$(launch qemu-x86_64 -cpu Haswell "$work/fake/bin/sla" 2>/dev/null)" "avx2 a b -c" "Haswell"
    rm "$work/fake/lib/sla/sla-avx2"
    same "$(launch qemu-x86_64 -cpu Haswell "$work/fake/bin/sla" 2>/dev/null)" "plain a b -c" "Haswell, without a build for it"
fi
rm "$work"/fake/lib/sla/*
if said=$("$work/fake/bin/sla" 2>&1); then same started refused "no build"; fi
same "$said" "sla: there is no build for this processor in $work/fake/lib/sla" "no build"
if said=$(SLA_BUILD=sse "$work/fake/bin/sla" 2>&1); then same started refused "SLA_BUILD=sse"; fi
if [ "${1:-}" = launcher ]; then exit 0; fi

out=$(cd "${1:-$root/.build/package}" && pwd)
archive=$(cd "$out" && ls sla-*-linux-x86_64.tar.gz)
name=${archive%.tar.gz}
step "checksums, and what is in $archive"
(cd "$out" && sha256sum -c --quiet "$name.sha256")
tar -C "$work" -xzf "$out/$archive"
tree=$work/$name
for file in share/man/man1/sla.1.gz share/man/man7/sla-protocol.7.gz share/bash-completion/completions/sla share/zsh/vendor-completions/_sla \
    share/fish/vendor_completions.d/sla.fish share/doc/sla/{copyright,LICENSE,LICENSE.swift,README.md,Protocol.md,CHANGELOG.md}; do
    [ -s "$tree/$file" ] || { echo "FAILED: there is no $file" >&2; exit 1; }
done
if command -v mandoc >/dev/null; then
    for page in "$tree"/share/man/man*/*.gz; do same "$(zcat "$page" | mandoc -Tlint -W warning)" "" "$page"; done
fi
for program in "$tree"/lib/sla/*; do
    needed=$(readelf -d "$program" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p')
    if grep -qi 'swift\|foundation\|dispatch' <<<"$needed"; then same "$needed" "no library of Swift's" "$program"; fi
done

step "the same bytes from every build"
unset SLA_MODEL SLA_REWARD
answer='3*5=15;2+15=17;7+17=24'
requests=$root/Tests/Conversations/vector-units.requests
same "$("$tree/bin/sla" run --quiet '3 5 7 2>24')" "$answer" "bin/sla"
"$tree/lib/sla/sla-plain" --no-timing <"$requests" >"$work/plain.jsonl"
for program in "$tree"/lib/sla/sla-*; do
    if ! "$program" --version >/dev/null 2>&1; then
        echo "${program##*/}: not on this processor"
        continue
    fi
    "$program" --no-timing <"$requests" | cmp - "$work/plain.jsonl"
    "$program" bench --signature "$root"/Tests/Fixtures/archs/*.gguf | diff "$root/Tests/Fixtures/signature.txt" -
    "$program" --version | tr '\n' ' '
    echo
done
if command -v qemu-x86_64 >/dev/null; then
    step "on a Nehalem and on a Haswell"
    "$tree/lib/sla/sla-avx2" --version >/dev/null && same "$(qemu-x86_64 -cpu Haswell "$tree/lib/sla/sla-avx2" run --quiet '3 5 7 2>24' 2>/dev/null)" "$answer" Haswell
    same "$(qemu-x86_64 -cpu Nehalem "$tree/lib/sla/sla-plain" run --quiet '3 5 7 2>24')" "$answer" Nehalem
    same "$(qemu-x86_64 -cpu Nehalem "$tree/lib/sla/sla-avx2" run '3 5 7 2>24' 2>&1 >/dev/null | grep -c 'needs a processor with avx2')" 1 "avx2 on a Nehalem"
fi

deb=$(cd "$out" && ls sla_*_amd64.deb 2>/dev/null || true)
if [ "$(id -u)" = 0 ] && [ -n "$deb" ] && [ -n "${SLA_DEBIAN:-}" ] && command -v debootstrap >/dev/null; then
    if [ ! -e "$SLA_DEBIAN/etc/debian_version" ]; then
        step "a Debian in $SLA_DEBIAN"
        debootstrap --variant=minbase bookworm "$SLA_DEBIAN" >"$work/debootstrap.log" 2>&1 || { tail -n 5 "$work/debootstrap.log" >&2; exit 1; }
    fi
    step "$deb and $archive in a Debian $(cat "$SLA_DEBIAN/etc/debian_version") without Swift"
    cp "$out/$deb" "$out/$archive" "$SLA_DEBIAN/tmp"
    # A mount namespace of its own, so that /proc is gone again however this ends.
    unshare -m chroot "$SLA_DEBIAN" sh -euc "
        mount -t proc none /proc
        if command -v swift; then exit 1; fi
        dpkg -i /tmp/$deb
        test \"\$(sla run --quiet '3 5 7 2>24')\" = '$answer'
        sla --version
        dpkg -r sla
        test ! -e /usr/bin/sla
        mkdir /opt/sla && tar -C /opt/sla --strip-components=1 -xzf /tmp/$archive
        hash -r
        PATH=/opt/sla/bin:\$PATH
        test \"\$(sla run --quiet '3 5 7 2>24')\" = '$answer'
        rm -r /opt/sla"
else
    echo "not tried in a Debian without Swift: SLA_DEBIAN=FOLDER, root, debootstrap and a .deb do that"
fi
echo "the packages are good"
