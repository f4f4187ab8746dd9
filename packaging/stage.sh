#!/usr/bin/env bash
# stage.sh DESTDIR BINDIR: lays out the files of gpusetup as installed on a host, from built binaries.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
dest=$1
bin=$2
lib=$dest/usr/lib/gpu-container

install -D -m 755 "$bin/gpusetup" "$dest/usr/bin/gpusetup"
install -D -m 755 "$bin/gpu-container" "$lib/gpu-container"
# Optional: without them pods, and the driver's own programs in containers, are not verified.
for program in cri-client cuda-init; do
    [ ! -e "$bin/$program" ] || install -D -m 755 "$bin/$program" "$lib/$program"
done
for name in gpu-container-runtime gpu-container-hook gpu-container-cli; do
    ln -sfn ../lib/gpu-container/gpu-container "$dest/usr/bin/$name"
done
# The vendor's names, in a directory of their own: dockerd looks for hooks by name; ctr, LXC and others look for the
# CLI.
install -d -m 755 "$lib/bin"
for name in nvidia-container-runtime-hook nvidia-container-runtime{,.cdi,.legacy} nvidia-container-cli nvidia-cdi-hook nvidia-ctk; do
    ln -sfn ../gpu-container "$lib/bin/$name"
done
put() { # put DIRECTORY FILE…: those that are there
    local directory=$1 file
    shift
    for file in "$@"; do
        [ ! -e "$file" ] || install -D -m 644 "$file" "$dest$directory/$(basename "$file")"
    done
}
from=$top/packaging
units=/usr/lib/systemd/system
put $units "$from"/systemd/*.service "$from"/systemd/*.path "$from"/systemd/*.timer
put /usr/lib/systemd/system-preset "$from"/systemd/*.preset
put /usr/lib/udev/rules.d "$from"/udev/*.rules
put /usr/lib/tmpfiles.d "$from"/tmpfiles.d/*.conf
put /usr/lib/sysusers.d "$from"/sysusers.d/*.conf
put /usr/share/selinux/packages "$from"/selinux/*.cil
# Started by links in /usr and not enabled, so that nothing is written to /etc and a user can refuse with `systemctl
# mask`.
install -d -m 755 "$dest$units/multi-user.target.wants"
for unit in gpusetup-cdi.service gpusetup-cdi.path; do
    ln -sfn "../$unit" "$dest$units/multi-user.target.wants/$unit"
done
# For C programs; the demo and the tests' hosts do not need it.
if [ -e "$bin/libgpucontainer.so.1.0.0" ]; then
    "$top/packaging/stage-library.sh" "$dest" "$bin"
fi
