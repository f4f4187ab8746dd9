//! The broken hosts of the doctor tests: for each id with a check, a healthy host and how to break
//! it.

use std::fs;

use super::{
    Base, CONFIG_TOML, CRI2, CRI3, DAEMON_JSON, DROP_IN, Host, LIB, OTHER, PCI, POLICY, SPEC,
    VERSION, runtime, their_spec,
};

/// How a healthy host is broken.
pub type Break = fn(&Host);

/// For each id of the table with a check, a host and how it is broken.
pub const BREAKS: &[(&str, Base, Break)] = &[
    ("driver-missing", Base::Bare, |h| {
        h.write(&format!("{PCI}/0000:3b:00.0/vendor"), "0x10de\n");
        h.write(&format!("{PCI}/0000:3b:00.0/class"), "0x030200\n");
    }),
    ("no-gpu", Base::Bare, |h| h.write("usr/bin/podman", "")),
    ("driver-not-loaded", Base::Debian, |h| {
        h.remove("proc/driver/nvidia");
    }),
    ("driver-not-built", Base::Debian, |h| {
        h.remove("proc/driver/nvidia");
        h.write(
            "lib/modules/6.12.9-amd64/modules.dep",
            "kernel/drivers/net/e1000.ko.xz:\n",
        );
    }),
    ("secure-boot", Base::Debian, |h| {
        h.remove("proc/driver/nvidia");
        let variable = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
        h.write(variable, "\x06\0\0\0\x01");
    }),
    ("nouveau-bound", Base::Debian, |h| {
        h.link(
            &format!("{PCI}/{}/driver", h.gpus()[0]),
            "../../../../bus/pci/drivers/nouveau",
        );
    }),
    ("vfio-bound", Base::Debian, |h| {
        for gpu in h.gpus() {
            h.link(
                &format!("{PCI}/{gpu}/driver"),
                "../../../../bus/pci/drivers/vfio-pci",
            );
        }
    }),
    ("driver-mismatch", Base::Debian, |h| {
        h.edit("proc/driver/nvidia/version", VERSION, OTHER);
    }),
    ("driver-no-libraries", Base::Debian, |h| h.remove(LIB)),
    ("driver-root-elsewhere", Base::Debian, |h| {
        let there = h.path("run/nvidia/driver").join(LIB);
        fs::create_dir_all(there.parent().unwrap()).unwrap();
        fs::rename(h.path(LIB), there).unwrap();
    }),
    ("driver-twice", Base::Debian, |h| {
        h.write(&format!("{LIB}/libcuda.so.{OTHER}"), "");
    }),
    ("gpu-lost", Base::Debian, |h| {
        h.remove(&format!("proc/driver/nvidia/gpus/{}", h.gpus()[1]));
    }),
    // As while the driver attaches it.
    ("gpu-left-out", Base::Debian, |h| {
        let list = format!("proc/driver/nvidia/gpus/{}/information", h.gpus()[1]);
        h.mode(&list, 0o644);
        h.edit(&list, "Device Minor", "Device Other");
    }),
    ("persistence-off", Base::Debian, |h| h.remove("proc/77")),
    ("fabricmanager-stopped", Base::Debian, |h| {
        h.write(&format!("{PCI}/0000:c1:00.0/vendor"), "0x10de\n");
        h.write(&format!("{PCI}/0000:c1:00.0/class"), "0x068000\n");
    }),
    ("fabricmanager-version", Base::Debian, |h| {
        h.package("nvidia-fabricmanager-580", "580.95.05-1");
    }),
    ("devices-missing", Base::Debian, |h| {
        h.remove("dev/nvidia-uvm");
    }),
    ("uvm-not-loaded", Base::Debian, |h| {
        h.remove("sys/module/nvidia_uvm");
        let devices = h.read("proc/devices");
        let rest = devices.lines().filter(|l| !l.ends_with("nvidia-uvm"));
        h.mode("proc/devices", 0o644);
        h.write(
            "proc/devices",
            &rest.map(|l| format!("{l}\n")).collect::<String>(),
        );
    }),
    ("device-stale", Base::Debian, |h| {
        let devices = h.read("proc/devices");
        let line = devices.lines().find(|l| l.ends_with("nvidia-uvm")).unwrap();
        h.mode("proc/devices", 0o644);
        h.write("proc/devices", &devices.replace(line, "499 nvidia-uvm"));
    }),
    ("device-no-node", Base::Debian, |h| {
        h.remove("dev/nvidia1");
        fs::create_dir(h.path("dev/nvidia1")).unwrap();
    }),
    ("device-mode", Base::Debian, |h| {
        h.mode("dev/nvidiactl", 0o660);
    }),
    ("dev-char", Base::Debian, |h| h.remove("dev/char")),
    ("cdi-missing", Base::Debian, |h| h.remove(SPEC)),
    ("cdi-stale", Base::Debian, |h| h.edit(SPEC, VERSION, OTHER)),
    ("cdi-paths-gone", Base::Debian, |h| {
        h.write(
            "etc/cdi/gds.yaml",
            &their_spec("nvidia.com/gds", "/usr/lib/gone.so.1"),
        );
    }),
    // The spec as the device plugin writes it with cdi-cri by default.
    ("cdi-hook-gone", Base::Debian, |h| {
        let spec = their_spec("k8s.device-plugin.nvidia.com/gpu", "/etc/os-release");
        let hook = "  hooks:\n  - hookName: createContainer\n    path: /usr/bin/nvidia-ctk\n    \
            args: [nvidia-ctk, hook, update-ldcache]\n";
        h.write(
            "var/run/cdi/k8s.device-plugin.nvidia.com-gpu.yaml",
            &(spec + hook),
        );
    }),
    ("cdi-conflict", Base::Debian, |h| {
        h.write("var/run/cdi/other.yaml", &h.read(SPEC));
    }),
    ("cdi-shadowed", Base::Debian, |h| {
        h.write("etc/cdi/nvidia.yaml", &h.read(SPEC));
    }),
    ("cdi-broken", Base::Debian, |h| {
        h.write("var/run/cdi/broken.yaml", "devices: [");
    }),
    ("cdi-closed", Base::Debian, |h| h.mode(SPEC, 0o600)),
    ("cdi-name", Base::Debian, |h| {
        h.write("etc/cdi/gpus.yml", &h.read(SPEC));
    }),
    ("cdi-too-new", Base::Debian, |h| {
        h.package("podman", "4.2.0+ds1-1");
    }),
    ("cdi-dirs", Base::Debian, |h| {
        h.write(
            "etc/containers/containers.conf",
            "[engine]\ncdi_spec_dirs = [\"/srv/cdi\"]\n",
        );
    }),
    ("cdi-two-writers", Base::Debian, |h| {
        let unit = "nvidia-cdi-refresh.service";
        h.write(
            &format!("usr/lib/systemd/system/{unit}"),
            "[Service]\nExecStart=/bin/true\n",
        );
        let wants = "etc/systemd/system/multi-user.target.wants";
        h.link(
            &format!("{wants}/{unit}"),
            &format!("/usr/lib/systemd/system/{unit}"),
        );
    }),
    ("refresh-off", Base::Debian, |h| {
        h.link("etc/systemd/system/gpusetup-cdi.service", "/dev/null");
    }),
    ("docker-json", Base::Debian, |h| {
        h.write(DAEMON_JSON, "{\n  \"a\": 1,\n}\n");
    }),
    ("docker-flag-and-file", Base::Debian, |h| {
        h.edit(
            DAEMON_JSON,
            "\"log-driver\"",
            "\"hosts\": [\"fd://\"],\n  \"log-driver\"",
        );
    }),
    ("docker-runtime-gone", Base::Debian, |h| {
        h.edit(
            DAEMON_JSON,
            "\"nvidia\": {",
            "\"old\": {\"path\": \"/usr/bin/nvidia-container-runtime\"}, \"nvidia\": {",
        );
    }),
    ("docker-default-unknown", Base::Debian, |h| {
        h.edit(
            DAEMON_JSON,
            "\"log-driver\"",
            "\"default-runtime\": \"gone\",\n  \"log-driver\"",
        );
    }),
    ("docker-no-hook", Base::Debian, |h| h.remove(DROP_IN)),
    ("docker-not-restarted", Base::Debian, |h| {
        h.write("var/run/docker.pid", "78");
        h.write("proc/78/environ", "LANG=C\0PATH=/usr/sbin:/usr/bin\0");
    }),
    ("docker-cdi-off", Base::Debian, |h| {
        h.edit(
            DAEMON_JSON,
            "\"log-driver\"",
            "\"features\": {\"cdi\": false},\n  \"log-driver\"",
        );
    }),
    ("docker-cdi-restart", Base::Debian, |h| {
        h.package("docker.io", "26.1.5+dfsg1-9");
        h.edit(
            DAEMON_JSON,
            "\"log-driver\"",
            "\"features\": {\"cdi\": true},\n  \"log-driver\"",
        );
        let dir = "var/lib/docker/containers/1f";
        let config = r#"{"RestartPolicy": {"Name": "always"}, "DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=0"]}]}"#;
        h.write(&format!("{dir}/hostconfig.json"), config);
        h.write(&format!("{dir}/config.v2.json"), r#"{"Name": "/web"}"#);
    }),
    ("docker-too-old", Base::Debian, |h| {
        h.package("docker.io", "18.09.1+dfsg1-7");
    }),
    ("docker-snap", Base::Bare, |h| {
        fs::create_dir_all(h.path("var/snap/docker")).unwrap();
    }),
    ("docker-two", Base::Debian, |h| {
        fs::create_dir_all(h.path("var/snap/docker")).unwrap();
    }),
    ("docker-desktop", Base::Bare, |h| {
        fs::create_dir_all(h.path("opt/docker-desktop")).unwrap();
    }),
    ("docker-context", Base::Debian, |h| {
        h.write(
            "root/.docker/config.json",
            "{\"currentContext\": \"desktop-linux\"}",
        );
    }),
    ("docker-runtime-unknown", Base::Debian, |h| {
        h.write(DAEMON_JSON, "{\"log-driver\": \"journald\"}\n");
    }),
    ("containerd-toml", Base::Node, |h| {
        h.write(CONFIG_TOML, "version = \n");
    }),
    ("containerd-versions", Base::Node, |h| {
        h.edit(CONFIG_TOML, "version = 3", "version = 2");
        let v3 = format!("version = 3\n{}", runtime(CRI3, "kata", "/usr/bin/runc"));
        h.write("etc/containerd/conf.d/99-kata.toml", &v3);
    }),
    ("containerd-unread", Base::Node, |h| {
        h.write(
            CONFIG_TOML,
            &runtime("plugins.cri.containerd", "runc", "/usr/bin/runc"),
        );
    }),
    ("containerd-cri-off", Base::Node, |h| {
        h.edit(
            CONFIG_TOML,
            "version = 3\n",
            "version = 3\ndisabled_plugins = [\"cri\"]\n",
        );
    }),
    ("containerd-hidden", Base::Debian, |h| {
        h.edit(
            CONFIG_TOML,
            "version = 2\n",
            "version = 2\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n",
        );
        let other = format!("version = 2\n{}", runtime(CRI2, "kata", "/usr/bin/runc"));
        h.write("etc/containerd/conf.d/40-kata.toml", &other);
    }),
    ("containerd-runtime-gone", Base::Debian, |h| {
        h.append(
            CONFIG_TOML,
            &runtime(
                CRI2,
                "gone",
                "/usr/local/nvidia/toolkit/nvidia-container-runtime",
            ),
        );
    }),
    ("containerd-runtime-type", Base::Debian, |h| {
        h.append(CONFIG_TOML, &format!("[{CRI2}.runtimes.nvidia-cdi.options]\nBinaryName = \"/usr/bin/runc\"\nSystemdCgroup = true\n"));
    }),
    ("containerd-cgroup-driver", Base::Debian, |h| {
        let other = runtime(CRI2, "nvidia-legacy", "/usr/bin/runc")
            .replace("SystemdCgroup = true", "SystemdCgroup = false");
        h.append(CONFIG_TOML, &other);
    }),
    ("containerd-not-imported", Base::Node, |h| {
        let text = format!(
            "version = 3\n{}",
            runtime(CRI3, "nvidia", "/usr/bin/nvidia-container-runtime")
        );
        h.write("etc/containerd/config.d/99-nvidia.toml", &text);
    }),
    ("containerd-default-unknown", Base::Node, |h| {
        h.append(
            CONFIG_TOML,
            &format!("[{CRI3}]\ndefault_runtime_name = \"gone\"\n"),
        );
    }),
    ("containerd-default-hidden", Base::Debian, |h| {
        h.append(
            CONFIG_TOML,
            &format!(
                "[{CRI2}]\ndefault_runtime_name = \"runc\"\n[{CRI2}.default_runtime]\n\
                 runtime_type = \"io.containerd.runc.v2\"\n"
            ),
        );
    }),
    ("cri-runtime-unknown", Base::Node, |h| {
        h.remove("etc/containerd/conf.d/50-gpusetup.toml");
    }),
    ("crio-toml", Base::Crio, |h| {
        h.write("etc/crio/crio.conf.d/20-site.conf", "[crio\n");
    }),
    ("crio-stray-file", Base::Crio, |h| {
        h.write("etc/crio/crio.conf.d/10-crio.conf.bak", "[crio.runtime]\n");
    }),
    ("crio-runtime-gone", Base::Crio, |h| {
        h.write(
            "etc/crio/crio.conf.d/20-kata.conf",
            "[crio.runtime.runtimes.kata]\nruntime_path = \"/usr/bin/kata\"\n",
        );
    }),
    ("crio-default-unknown", Base::Crio, |h| {
        h.write(
            "etc/crio/crio.conf.d/20-site.conf",
            "[crio.runtime]\ndefault_runtime = \"gone\"\n",
        );
    }),
    ("hooks-leftover", Base::Debian, |h| {
        h.write(
            "usr/share/containers/oci/hooks.d/oci-nvidia-hook.json",
            "{\"hook\": {\"path\": \"/usr/bin/nvidia-container-toolkit\"}}",
        );
    }),
    ("podman-too-old", Base::Debian, |h| {
        h.package("podman", "3.4.4+ds1-1");
    }),
    ("hook-direct", Base::Toolkit, |h| {
        h.append(POLICY, "[nvidia-container-runtime]\nmode = \"cdi\"\n");
    }),
    ("kubelet-cgroup-driver", Base::Debian, |h| {
        h.write("var/lib/kubelet/config.yaml", "cgroupDriver: cgroupfs\n");
    }),
    ("k3s-template", Base::K3s, |h| {
        h.write(
            "var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.tmpl",
            "version = 3\n[debug]\nlevel = \"info\"\n",
        );
    }),
    ("two-owners", Base::Node, |h| {
        h.write("usr/local/nvidia/toolkit/nvidia-container-runtime", "");
    }),
    ("no-cgroups", Base::Debian, |h| {
        h.write(POLICY, "[nvidia-container-cli]\nno-cgroups = true\n");
    }),
    ("kernel-too-old", Base::Debian, |h| {
        h.write("proc/sys/kernel/osrelease", "4.14.336\n");
    }),
    ("cgroups-missing", Base::Debian, |h| {
        h.remove("sys/fs/cgroup");
    }),
    ("toolkit-cgroup2", Base::Debian, |h| {
        h.package("libnvidia-container1", "1.7.0-1");
    }),
    ("bpf-hidden", Base::Debian, |h| {
        h.write("proc/sys/net/core/bpf_jit_harden", "2\n");
        h.write("proc/sys/kernel/kptr_restrict", "2\n");
    }),
    ("apparmor-parser", Base::Debian, |h| {
        h.write("sys/module/apparmor/parameters/enabled", "Y\n");
        fs::create_dir_all(h.path("sys/kernel/security/apparmor")).unwrap();
    }),
    ("selinux-denies", Base::Debian, |h| {
        h.write("sys/fs/selinux/enforce", "1");
        h.write("sys/fs/selinux/booleans/container_use_devices", "0 0");
    }),
    ("nested", Base::Debian, |h| {
        h.write("run/systemd/container", "lxc\n");
    }),
    ("wsl-linux-driver", Base::Wsl, |h| {
        h.write(&format!("{LIB}/libcuda.so.{VERSION}"), "");
    }),
    ("wsl-no-gpu", Base::Wsl, |h| h.remove("dev/dxg")),
    ("wsl-no-libraries", Base::Wsl, |h| h.remove("usr/lib/wsl")),
    ("wsl-no-systemd", Base::Wsl, |h| {
        h.remove("run/systemd/system");
    }),
    ("jetson-no-lists", Base::Jetson, |h| {
        h.remove("etc/nvidia-container-runtime/host-files-for-container.d");
    }),
    ("jetson-bad-list", Base::Jetson, |h| {
        h.write(
            "etc/nvidia-container-runtime/host-files-for-container.d/devices.csv",
            "what is this\n",
        );
    }),
    ("repo-page", Base::Debian, |h| {
        h.write(
            "etc/apt/sources.list.d/nvidia-docker.list",
            "# Unsupported distribution!\n# Check https://nvidia.github.io/nvidia-docker\n",
        );
    }),
    ("repo-gone", Base::Debian, |h| {
        h.write(
            "etc/apt/sources.list.d/nvidia-docker.list",
            "deb https://nvidia.github.io/nvidia-docker/ubuntu18.04/$(ARCH) /\n",
        );
    }),
    ("repo-twice", Base::Debian, |h| {
        let deb = |key: &str| {
            format!(
                "deb [signed-by={key}] https://nvidia.github.io/libnvidia-container/stable/deb/$(ARCH) /\n"
            )
        };
        for key in ["a", "b"] {
            h.write(&format!("usr/share/keyrings/{key}.gpg"), "");
            h.write(
                &format!("etc/apt/sources.list.d/nvidia-{key}.list"),
                &deb(&format!("/usr/share/keyrings/{key}.gpg")),
            );
        }
    }),
    ("repo-key", Base::Debian, |h| {
        h.write("etc/apt/sources.list.d/nvidia.sources", "Types: deb\nURIs: https://nvidia.github.io/libnvidia-container/stable/deb/amd64\nSuites: /\nSigned-By: /usr/share/keyrings/gone.gpg\n");
    }),
    ("packages-skew", Base::Toolkit, |h| {
        h.package("libnvidia-container1", "1.17.8-1");
    }),
    ("packages-half", Base::Debian, |h| {
        h.package_as("nvidia-driver-580", VERSION, "install ok half-configured");
    }),
    ("toolkit-vulnerable", Base::Debian, |h| {
        h.package("nvidia-container-toolkit", "1.17.4-1");
    }),
    ("policy-invalid", Base::Debian, |h| {
        h.write(POLICY, "[nvidia-container-cli\n");
    }),
    ("policy-gone", Base::Debian, |h| {
        let strict = "accept-nvidia-visible-devices-envvar-when-unprivileged = false\n";
        h.write("var/lib/gpu-container/policy.toml", strict);
        let _ = fs::remove_file(h.path(POLICY));
    }),
    ("runtime-turned-off", Base::Debian, |h| {
        h.write("etc/gpu-container-runtime.off", "");
    }),
    ("policy-root", Base::Debian, |h| {
        h.write(POLICY, "[nvidia-container-cli]\nroot = \"/run/gone\"\n");
    }),
    ("policy-csv", Base::Debian, |h| {
        h.write(POLICY, "[nvidia-container-runtime]\nmode = \"csv\"\n");
    }),
    ("no-low-level-runtime", Base::Debian, |h| {
        h.remove("usr/bin/runc");
    }),
    ("ldconfig-path", Base::Debian, |h| {
        h.write(
            POLICY,
            "[nvidia-container-cli]\nldconfig = \"@/sbin/ldconfig.real\"\n",
        );
    }),
    ("not-set-up", Base::Debian, |h| {
        h.remove("var/lib/gpusetup");
        h.remove("var/run/cdi");
        h.write(DAEMON_JSON, "{}\n");
    }),
    ("interrupted", Base::Debian, |h| {
        h.write("var/lib/gpusetup/journal.json", "{}");
    }),
    ("programs-gone", Base::Debian, |h| {
        h.remove("usr/bin/gpu-container-runtime");
    }),
    ("drop-in-leftover", Base::Debian, |h| {
        h.remove("var/lib/gpusetup");
        h.remove("usr/lib/gpu-container");
    }),
    ("engine-gone", Base::Debian, |h| {
        h.remove("usr/sbin/dockerd");
    }),
    ("inventory-stale", Base::Debian, |h| {
        h.remove("run/gpusetup/inventory.json");
    }),
    ("receipt-broken", Base::Debian, |h| {
        h.write("var/lib/gpusetup/receipt.json", "{");
    }),
    ("distro-unsupported", Base::Debian, |h| {
        h.write("etc/os-release", "ID=nixos\nPRETTY_NAME=\"NixOS\"\n");
    }),
];
