#!/usr/bin/env bash
# build-static.sh OUT: the static multi-call binary of the container start path, for TARGET or this machine.
# No loader, so no library of an image or of the host is touched. By musl where its target is
# installed (rustup target add x86_64-unknown-linux-musl): glibc's start-up asks the CPU some
# thirty questions (CPUID), each a trap in a virtual machine, which makes every start of the
# binary 0.4 ms longer there.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$1
target=${TARGET:-$(rustc -vV | sed -n 's/^host: //p')}
musl=${target%-gnu*}-musl
# Cargo passes no `strip` on for a package whose profile has a part of its own. `compile` keeps the symbols, to split them off.
flags=(-C target-feature=+crt-static -C "strip=${CARGO_PROFILE_HOT_STRIP:-symbols}")
if [ -d "$(rustc --print sysroot)/lib/rustlib/$musl/lib" ]; then
    target=$musl
    # A tenth of the room. musl knows them since 1.2.4, a static glibc only since 2.36.
    flags+=(-C "link-arg=-Wl,-z,pack-relative-relocs")
    # Nothing unwinds.
    flags+=(-C "link-arg=-Wl,--no-eh-frame-hdr")
else
    echo "build-static.sh: by glibc, which starts slower: no target $musl; rustup target add $musl" >&2
fi
# By name, so that the flags reach neither build scripts nor the other crates' cache.
cargo rustc -q --locked -p gpu-container --bin gpu-container --profile hot --target "$target" -- "${flags[@]}"
built=${CARGO_TARGET_DIR:-target}/$target/hot/gpu-container
if readelf -lW "$built" | grep -q INTERP; then
    echo "$built is not static" >&2
    exit 1
fi
# What only link-time optimisation does to it shows in no test of cargo's: a start with work to do must end.
if [ "${target%%-*}" = "$(uname -m)" ]; then
    empty=$(mktemp -d)
    trap 'rmdir "$empty"' EXIT
    if ! said=$(timeout -s KILL 10 "$built" refresh --root "$empty" 2>&1); then
        echo "$built does not run: ${said:-it did not end within 10 s}" >&2
        exit 1
    fi
fi
install -D -m 755 "$built" "$out"
