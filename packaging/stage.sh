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
units=$dest/usr/lib/systemd/system
# Wanted by links of ours, not enabled: nothing is written to /etc, and `systemctl mask` is the
# user's way to say no.
install -d -m 755 "$units/multi-user.target.wants"
for unit in gpusetup-cdi.service gpusetup-cdi.path; do
    install -D -m 644 "$top/packaging/systemd/$unit" "$units/$unit"
    ln -sfn "../$unit" "$units/multi-user.target.wants/$unit"
done
install -D -m 644 "$top/packaging/udev/60-gpusetup-cdi.rules" "$dest/usr/lib/udev/rules.d/60-gpusetup-cdi.rules"
install -D -m 644 "$top/packaging/tmpfiles.d/gpusetup.conf" "$dest/usr/lib/tmpfiles.d/gpusetup.conf"
install -D -m 644 "$top/packaging/selinux/gpu-container.cil" "$dest/usr/share/selinux/packages/gpu-container.cil"
# For C programs; the demo and the hosts of the tests do without.
if [ -e "$bin/libgpucontainer.so.1.0.0" ]; then
    "$top/packaging/stage-library.sh" "$dest" "$bin"
fi
