#!/usr/bin/env bash
# build-static.sh OUT: builds the static multi-call binary of the container start path, for TARGET or this machine.
# Without a loader it uses no library of an image or of the host. Uses musl if its target is installed (rustup target
# add x86_64-unknown-linux-musl): at start glibc asks the CPU some thirty questions (CPUID), each of which traps in a
# virtual machine and together make every start there 0.4 ms longer.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$1
target=${TARGET:-$(rustc -vV | sed -n 's/^host: //p')}
musl=${target%-gnu*}-musl
# Cargo does not pass `strip` on for a package with profile settings of its own. `compile` keeps the symbols to split
# them off.
flags=(-C target-feature=+crt-static -C "strip=${CARGO_PROFILE_HOT_STRIP:-symbols}")
if [ -d "$(rustc --print sysroot)/lib/rustlib/$musl/lib" ]; then
    target=$musl
    # Packed relocations need a tenth of the space. musl supports them since 1.2.4, a static glibc only since 2.36.
    flags+=(-C "link-arg=-Wl,-z,pack-relative-relocs")
    # Nothing unwinds, so no table for that is needed.
    flags+=(-C "link-arg=-Wl,--no-eh-frame-hdr")
else
    echo "build-static.sh: by glibc, which starts slower: no target $musl; rustup target add $musl" >&2
fi
# With --target, so that the flags reach neither build scripts nor the other crates' cache.
cargo rustc -q --locked -p gpu-container --bin gpu-container --profile hot --target "$target" -- "${flags[@]}"
built=${CARGO_TARGET_DIR:-target}/$target/hot/gpu-container
if readelf -lW "$built" | grep -q INTERP; then
    echo "$built is not static" >&2
    exit 1
fi
# No test of cargo's shows what link-time optimisation does to this binary, so check that it runs and ends.
if [ "${target%%-*}" = "$(uname -m)" ]; then
    empty=$(mktemp -d)
    trap 'rmdir "$empty"' EXIT
    if ! output=$(timeout -s KILL 10 "$built" refresh --root "$empty" 2>&1); then
        echo "$built does not run: ${output:-it did not end within 10 s}" >&2
        exit 1
    fi
fi
install -D -m 755 "$built" "$out"
