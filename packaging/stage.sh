#!/usr/bin/env bash
# stage.sh DESTDIR BINDIR: the files of gpusetup as a host has them, from built binaries.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
dest=$1
bin=$2
lib=$dest/usr/lib/gpu-container

install -D -m 755 "$bin/gpusetup" "$dest/usr/bin/gpusetup"
install -D -m 755 "$bin/gpu-container" "$lib/gpu-container"
for name in gpu-container-runtime gpu-container-hook gpu-container-cli; do
    ln -sfn ../lib/gpu-container/gpu-container "$dest/usr/bin/$name"
done
# The vendor's names, in a directory of their own: dockerd looks for hooks by name, ctr, LXC and
# others for the CLI.
install -d -m 755 "$lib/bin"
for name in nvidia-container-runtime-hook nvidia-container-runtime{,.cdi,.legacy} nvidia-container-cli nvidia-cdi-hook; do
    ln -sfn ../gpu-container "$lib/bin/$name"
done
ln -sfn ../../../bin/gpusetup "$lib/bin/nvidia-ctk"
install -D -m 644 "$top/packaging/systemd/gpusetup-cdi.service" \
    "$dest/usr/lib/systemd/system/gpusetup-cdi.service"
install -D -m 644 "$top/packaging/tmpfiles.d/gpusetup.conf" "$dest/usr/lib/tmpfiles.d/gpusetup.conf"
# Always wanted: it does nothing before `gpusetup install` has left a receipt.
install -d -m 755 "$dest/usr/lib/systemd/system/multi-user.target.wants"
ln -sfn ../gpusetup-cdi.service "$dest/usr/lib/systemd/system/multi-user.target.wants/gpusetup-cdi.service"
# For C programs; the demo and the hosts of the tests do without.
if [ -e "$bin/libgpucontainer.so.1.0.0" ]; then
    "$top/packaging/stage-library.sh" "$dest" "$bin"
fi
