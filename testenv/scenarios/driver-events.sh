# Sourced by `packages` on a host with a udev of its own: events of the driver, as the kernel and udev
# send them, start gpusetup-cdi.service by our rules. They leave the host as it was.
# shellcheck shell=bash
rules=/usr/lib/udev/rules.d/60-gpusetup-cdi.rules
slot=$(basename "$(find /sys/bus/pci/devices -mindepth 1 | sort | head -1)")
device=$(readlink -f "/sys/bus/pci/devices/$slot")

load_nvidia() { # a small module of the kernel's own, with the driver's name in it and no signature for another
    local module
    module=$(modinfo -n dummy) || return
    /usr/lib/apt/apt-helper cat-file "$module" | perl -0777 -pe \
        's/~Module signature appended~\n\z//; s/dummy\0(\0{49})\0/nvidia\0$1/ or die "no name in it\n"' >/run/nvidia.ko || return
    insmod /run/nvidia.ko && test -d /sys/module/nvidia
}
# What it is bound to is said by a rule before ours, what it is by files over those of sysfs.
pretend() { # pretend bind|unbind: a PCI device that has got the driver, or lost it
    udevadm trigger --action="$1" "$device"
}

if udevadm verify --help >/dev/null 2>&1; then check "udev takes our rules" udevadm verify $rules; fi
check "the driver's module, loaded, starts the service" described_after load_nvidia
rmmod nvidia
mkdir -p /run/udev/rules.d
echo "SUBSYSTEM==\"pci\", KERNEL==\"$slot\", ENV{DRIVER}=\"nvidia\"" >/run/udev/rules.d/50-scenario.rules
udevadm control --reload
check "a GPU that gets the driver does" described_after pretend bind
rm /run/udev/rules.d/50-scenario.rules
udevadm control --reload
for attribute in vendor:0x10de class:0x030000; do
    echo "${attribute#*:}" >"/run/scenario-${attribute%:*}"
    mount --bind "/run/scenario-${attribute%:*}" "$device/${attribute%:*}"
done
check "a GPU that loses the driver does" described_after pretend unbind
umount "$device/vendor" "$device/class"
rm -f /run/nvidia.ko /run/scenario-*
systemctl start gpusetup-cdi.service
