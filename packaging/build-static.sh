#!/usr/bin/env bash
# build-static.sh OUT: the static multi-call binary of the container start path, for TARGET or this machine.
# The gnu target with crt-static: no loader, no library of an image or of the host is touched.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$1
target=${TARGET:-$(rustc -vV | sed -n 's/^host: //p')}
# By name, so that the flags reach neither build scripts nor the other crates' cache.
cargo rustc -q --locked -p gpu-container --bin gpu-container --profile hot --target "$target" -- -C target-feature=+crt-static
built=${CARGO_TARGET_DIR:-target}/$target/hot/gpu-container
if readelf -lW "$built" | grep -q INTERP; then
    echo "$built is not static" >&2
    exit 1
fi
install -D -m 755 "$built" "$out"
