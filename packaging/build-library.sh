#!/usr/bin/env bash
# build-library.sh OUTDIR: builds libgpucontainer.so.1.0.0 for C programs. PROFILE (release by default) is cargo's
# profile; it must unwind, since panics are caught at the border to C. FLOOR is the oldest glibc that it must work
# with on TARGET; zig's linker knows that version's symbols. rustc's cdylib would bring its own version script, so a
# static library is linked with ours.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$1
profile=${PROFILE:-release}
map=crates/libgpucontainer/gpucontainer.map

dir=$profile
[ "$profile" = dev ] && dir=debug
where=()
linker=("${CC:-cc}")
unwinder=-lgcc_s
if [ -n "${FLOOR:-}" ]; then
    where=(--target "$TARGET")
    dir=$TARGET/$dir
    linker=(python-zig cc -target "${TARGET%%-*}-linux-gnu.$FLOOR" "-Wl,--build-id=sha1")
    unwinder=-lunwind
fi
cargo rustc -q --locked -p libgpucontainer --lib --crate-type staticlib --profile "$profile" "${where[@]}"
archive=${CARGO_TARGET_DIR:-target}/$dir/libgpucontainer.a
mkdir -p "$out"
# dlclose must not unload it: Rust's thread-local values have destructors in it.
"${linker[@]}" -shared -o "$out/libgpucontainer.so.1.0.0" \
    -Wl,-soname,libgpucontainer.so.1 -Wl,--version-script="$map" -Wl,--gc-sections \
    -Wl,-z,relro -Wl,-z,now -Wl,-z,defs -Wl,-z,nodelete -Wl,--as-needed -Wl,--hash-style=both \
    -Wl,--whole-archive "$archive" -Wl,--no-whole-archive "$unwinder" -lpthread -lm -ldl -lc
[ "$profile" = dev ] || [ -n "${FLOOR:-}" ] || strip --strip-unneeded "$out/libgpucontainer.so.1.0.0"

# Exports only our symbols, with their version.
if nm -D --defined-only "$out/libgpucontainer.so.1.0.0" | grep -vE ' T gpc_[a-z_]+@@GPUCONTAINER_1\.0$| A GPUCONTAINER_1\.0(@@GPUCONTAINER_1\.0)?$'; then
    echo "libgpucontainer.so.1.0.0 shows more than gpc_*" >&2
    exit 1
fi
