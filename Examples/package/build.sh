#!/usr/bin/env bash
# Makes sla-VERSION-linux-x86_64.tar.gz and sla_VERSION_amd64.deb: the program for every vector unit with a launcher that chooses, the manual,
# completions and licences. It needs Swift, a C compiler and Debian's lowdown, and for the second file dpkg-dev. No network.
#
#     Examples/package/build.sh [FOLDER]       where the packages go; .build/package unless it is given
#
#   SLA_UNITS="avx512 avx2 plain"              the builds, plain at least
#   SLA_BINARIES=FOLDER                        takes FOLDER/sla-UNIT where it is there, instead of building it
#   SOURCE_DATE_EPOCH=SECONDS                  the date of the files; the last commit's unless it is given
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=${1:-$root/.build/package}
units=${SLA_UNITS:-avx512 avx2 plain}
[ "$(uname -sm)" = "Linux x86_64" ] || { echo "build.sh: packages are made for Linux on x86-64, and this is $(uname -sm)" >&2; exit 1; }
[[ " $units " == *" plain "* ]] || { echo "build.sh: SLA_UNITS is \"$units\"; without plain the package would not run everywhere" >&2; exit 1; }
for tool in swift cc lowdown gzip; do
    command -v $tool >/dev/null || { echo "build.sh: there is no $tool here; install it (README.md)" >&2; exit 1; }
done
cd "$root"
version=$(sed -n 's/^package let version = "\(.*\)"$/\1/p' Sources/SLABase/Version.swift)
date=$(sed -n 's/^package let versionDate = "\(.*\)"$/\1/p' Sources/SLABase/Version.swift)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
mkdir -p "$out"
out=$(cd "$out" && pwd)
tree=$out/tree/usr
rm -rf "$out/tree" && mkdir -p "$tree/bin" "$tree/lib/sla" "$tree/share/man/man1" "$tree/share/man/man7" "$tree/share/doc/sla" \
    "$tree/share/bash-completion/completions" "$tree/share/zsh/vendor-completions" "$tree/share/fish/vendor_completions.d"

# The programs, one after another; Swift is in them, so that nobody needs it.
for unit in $units; do
    program=${SLA_BINARIES:-/nowhere}/sla-$unit
    if [ ! -x "$program" ]; then
        echo "building for $unit"
        SLA_VECTOR=$unit swift build -c release --static-swift-stdlib --product sla --scratch-path "$out/build-$unit" >"$out/build-$unit.log" 2>&1 ||
            { tail -n 40 "$out/build-$unit.log" >&2; exit 1; }
        program=$out/build-$unit/release/sla
    fi
    strip --strip-unneeded -o "$tree/lib/sla/sla-$unit" "$program"
done
cc -O2 -Wall -static -o "$tree/bin/sla" "$here/launcher.c" && strip "$tree/bin/sla"

# Of the builds any can tell of itself; this one runs everywhere.
sla=$tree/lib/sla/sla-plain
"$sla" man >"$tree/share/man/man1/sla.1"
"$here/protocol-manual.sh" "$version" "$date" <Protocol.md >"$tree/share/man/man7/sla-protocol.7"
gzip -9n "$tree"/share/man/man*/*
"$sla" completions bash >"$tree/share/bash-completion/completions/sla"
"$sla" completions zsh >"$tree/share/zsh/vendor-completions/_sla"
"$sla" completions fish >"$tree/share/fish/vendor_completions.d/sla.fish"

swift_license=$(dirname "$(dirname "$(readlink -f "$(command -v swift)")")")/share/swift/LICENSE.txt
cp LICENSE README.md Protocol.md CHANGELOG.md "$tree/share/doc/sla/"
cp "$swift_license" "$tree/share/doc/sla/LICENSE.swift"
cp "$here/copyright" "$tree/share/doc/sla/copyright"

find "$out/tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
name=sla-$version-linux-x86_64
tar -C "$out/tree" --sort=name --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --transform "s,^usr,$name," -cf - usr | gzip -9n >"$out/$name.tar.gz"
packages=("$name.tar.gz")

if command -v dpkg-shlibdeps >/dev/null; then
    # dpkg-shlibdeps asks for a source package's control file, and tells which versions of the C and C++ libraries hold all symbols.
    mkdir -p "$out/tree/DEBIAN" "$out/deb/debian" && printf 'Source: sla\n\nPackage: sla\nArchitecture: amd64\n' >"$out/deb/debian/control"
    depends=$(cd "$out/deb" && dpkg-shlibdeps -O "$tree"/lib/sla/* 2>/dev/null | sed -n 's/^shlibs:Depends=//p' || true)
    [ -n "$depends" ] || { echo "build.sh: dpkg-shlibdeps does not tell what the programs need" >&2; exit 1; }
    cat >"$out/tree/DEBIAN/control" <<END
Package: sla
Version: $version
Architecture: amd64
Maintainer: The authors of sla <sla@localhost>
Installed-Size: $(du -sk "$tree" | cut -f1)
Depends: $depends
Section: science
Priority: optional
Description: language models with streaming look-ahead, on a processor
 One process that runs GGUF models: JSON Lines requests in, token and reward
 events out. A reward channel beside the model guides a tree search whose
 answer still streams. The best build for the processor is chosen at start,
 and all of them give the same bytes.
END
    find "$out/tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    deb=sla_${version}_amd64.deb
    dpkg-deb --root-owner-group -Zxz --build "$out/tree" "$out/$deb" >/dev/null
    rm -r "$out/tree/DEBIAN" "$out/deb"
    packages+=("$deb")
else
    echo "build.sh: without dpkg-dev there is no .deb" >&2
fi
(cd "$out" && sha256sum "${packages[@]}" >"$name.sha256" && cat "$name.sha256")
