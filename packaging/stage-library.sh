#!/usr/bin/env bash
# stage-library.sh DESTDIR BINDIR: lays out the library, its header and its pkg-config file. LIBDIR is the host's
# library directory, by default the compiler's multiarch one; packages for distributions without it use /usr/lib64.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
dest=$1
bin=$2
if [ -z "${LIBDIR:-}" ]; then
    triplet=$("${CC:-cc}" -print-multiarch)
    LIBDIR=/usr/lib64
    [ -n "$triplet" ] && LIBDIR=/usr/lib/$triplet
fi
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$top/Cargo.toml")

install -D -m 644 "$bin/libgpucontainer.so.1.0.0" "$dest$LIBDIR/libgpucontainer.so.1.0.0"
ln -sfn libgpucontainer.so.1.0.0 "$dest$LIBDIR/libgpucontainer.so.1"
ln -sfn libgpucontainer.so.1 "$dest$LIBDIR/libgpucontainer.so"
install -D -m 644 "$top/crates/libgpucontainer/include/gpucontainer.h" "$dest/usr/include/gpucontainer.h"
install -d -m 755 "$dest$LIBDIR/pkgconfig"
sed "s|@LIBDIR@|$LIBDIR|; s|@VERSION@|$version|" "$top/crates/libgpucontainer/gpucontainer.pc.in" \
    >"$dest$LIBDIR/pkgconfig/gpucontainer.pc"
