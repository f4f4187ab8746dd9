//! Detects the platform the distribution runs on: WSL, Jetson, DGX, a container, ostree.

use serde::Serialize;

use super::kernel;
use super::os_release::field;
use crate::root::Root;

/// Facts that os-release does not contain: Ubuntu has the same one on WSL, a Jetson and a DGX.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Platform {
    /// Windows Subsystem for Linux.
    pub wsl: bool,
    /// GPUs come from a Windows host through `/dev/dxg` (WSL 2, Hyper-V GPU-PV).
    pub dxg: bool,
    /// Release of Linux for Tegra, such as `36.4.7`; `unknown` on a Tegra without release file.
    pub jetson: Option<String>,
    /// The product name of a DGX, such as `NVIDIA DGX Spark`.
    pub dgx: Option<String>,
    /// The kind of container that this process runs in.
    pub container: Option<String>,
    /// Booted from an ostree deployment (Fedora's atomic systems, bootc): /usr is read-only.
    pub ostree: bool,
}

/// Detects the platform by files alone; runs no program.
pub fn detect(root: &Root) -> Platform {
    Platform {
        wsl: is_wsl(root),
        dxg: root.exists("/dev/dxg"),
        jetson: jetson(root),
        dgx: root
            .read_to_string("/etc/dgx-release")
            .ok()
            .map(|t| field(&t, "DGX_PRETTY_NAME").unwrap_or_else(|| "NVIDIA DGX".into())),
        container: container(root),
        ostree: is_ostree(root),
    }
}

/// Whether the host was booted from ostree. ostree-prepare-root(1) makes the marker early in the boot.
pub fn is_ostree(root: &Root) -> bool {
    root.exists("/run/ostree-booted")
}

/// WSL is recognized by Microsoft's kernel or, with a kernel that the user built, by the binfmt
/// handler for Windows programs (`WSLInterop-late` where systemd runs).
fn is_wsl(root: &Root) -> bool {
    kernel::release(root).is_some_and(|r| r.to_ascii_lowercase().contains("microsoft"))
        || ["WSLInterop", "WSLInterop-late"]
            .iter()
            .any(|name| root.exists(format!("/proc/sys/fs/binfmt_misc/{name}")))
}

/// Reads `# R36 (release), REVISION: 4.7, GCID: ...`. An image without that file is recognized by the `SoC` family.
fn jetson(root: &Root) -> Option<String> {
    if let Ok(text) = root.read_to_string("/etc/nv_tegra_release") {
        let part = |before: &str| text.split(before).nth(1)?.split([' ', ',', '\n']).next();
        return Some(match (part("# R"), part("REVISION: ")) {
            (Some(major), Some(minor)) => format!("{major}.{minor}"),
            _ => "unknown".into(),
        });
    }
    root.read_to_string("/sys/devices/soc0/family")
        .is_ok_and(|f| f.trim() == "Tegra")
        .then(|| "unknown".into())
}

/// systemd writes the kind to /run/systemd/container (also for WSL, which is not a container);
/// Docker and Podman make a marker file.
fn container(root: &Root) -> Option<String> {
    let by_systemd = root
        .read_to_string("/run/systemd/container")
        .ok()
        .map(|t| t.trim().to_owned())
        .filter(|t| !t.is_empty() && t != "wsl");
    let by_marker = [("/.dockerenv", "docker"), ("/run/.containerenv", "podman")]
        .iter()
        .find(|(path, _)| root.exists(path))
        .map(|(_, name)| (*name).to_owned());
    by_systemd.or(by_marker)
}

impl Platform {
    /// Short descriptions for the user; empty on an ordinary host.
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        if self.wsl {
            words.push("WSL".into());
        }
        words.extend(self.jetson.as_ref().map(|r| format!("Jetson (L4T {r})")));
        words.extend(self.dgx.clone());
        words.extend(self.container.as_ref().map(|c| format!("in {c}")));
        if self.ostree {
            words.push("ostree".into());
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn on(files: &[(&str, &str)]) -> Platform {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        detect(&Root::open(dir.path()).unwrap())
    }

    #[test]
    fn an_ordinary_host_has_no_platform_facts() {
        let plain = on(&[("proc/sys/kernel/osrelease", "6.8.0-1015-azure\n")]);
        assert_eq!(plain, Platform::default());
        assert!(plain.words().is_empty());
    }

    #[test]
    fn wsl_is_recognized_by_kernel_or_interop_handler() {
        for kernel in [
            "5.15.167.4-microsoft-standard-WSL2",
            "4.4.0-19041-Microsoft",
        ] {
            assert!(on(&[("proc/sys/kernel/osrelease", kernel)]).wsl, "{kernel}");
        }
        assert!(on(&[("proc/sys/fs/binfmt_misc/WSLInterop-late", "")]).wsl);
        // systemd reports WSL as a container.
        let wsl = on(&[
            ("proc/sys/fs/binfmt_misc/WSLInterop", "enabled\n"),
            ("run/systemd/container", "wsl\n"),
        ]);
        assert_eq!((wsl.wsl, wsl.container), (true, None));
        // A Hyper-V guest with a GPU partition is not WSL.
        let guest = on(&[("dev/dxg", "")]);
        assert_eq!((guest.wsl, guest.dxg), (false, true));
    }

    #[test]
    fn a_jetson_has_its_l4t_release() {
        let release = "# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic, EABI: aarch64, DATE: Thu Sep 18 22:54:44 UTC 2025\n# KERNEL_VARIANT: oot\n";
        let orin = on(&[("etc/nv_tegra_release", release)]);
        assert_eq!(orin.jetson.as_deref(), Some("36.4.7"));
        assert_eq!(orin.words(), ["Jetson (L4T 36.4.7)"]);
        let odd = on(&[("etc/nv_tegra_release", "?")]);
        assert_eq!(odd.jetson.as_deref(), Some("unknown"));
        let bare = on(&[("sys/devices/soc0/family", "Tegra\n")]);
        assert_eq!(bare.jetson.as_deref(), Some("unknown"));
        assert_eq!(on(&[("sys/devices/soc0/family", "i.MX\n")]).jetson, None);
    }

    #[test]
    fn a_dgx_has_its_product_name() {
        let spark = on(&[(
            "etc/dgx-release",
            "DGX_NAME=\"DGX Spark\"\nDGX_PRETTY_NAME=\"NVIDIA DGX Spark\"\nDGX_SWBUILD_VERSION=\"7.2.3\"\n",
        )]);
        assert_eq!(spark.dgx.as_deref(), Some("NVIDIA DGX Spark"));
        let odd = on(&[("etc/dgx-release", "")]);
        assert_eq!(odd.dgx.as_deref(), Some("NVIDIA DGX"));
    }

    #[test]
    fn the_kind_of_container_is_recognized() {
        let container_of = |path: &str, text: &str| on(&[(path, text)]).container;
        assert_eq!(
            container_of("run/systemd/container", "systemd-nspawn\n").as_deref(),
            Some("systemd-nspawn")
        );
        assert_eq!(container_of(".dockerenv", "").as_deref(), Some("docker"));
        assert_eq!(
            container_of("run/.containerenv", "").as_deref(),
            Some("podman")
        );
        assert!(on(&[("run/ostree-booted", "")]).ostree);
    }
}
