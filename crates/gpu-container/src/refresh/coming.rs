//! Waits at boot for a driver that is being loaded. udev loads the module, and engines must not
//! restart containers before that (nixpkgs #353059).

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use gpu_host::{Root, installed_version};

use crate::log;

/// Exists while udev is processing events (systemd, `udev-util.c`, `udev_queue_is_empty`).
const UDEV_QUEUE: &str = "/run/udev/queue";
const PCI: &str = "/sys/bus/pci/devices";
const STEP: Duration = Duration::from_millis(50);
/// Time limit. Eight GPUs take some seconds; a module that hangs must not block the boot.
const LIMIT: Duration = Duration::from_secs(60);

/// Waits while udev is processing events and there is a GPU without a driver although its driver is
/// installed.
pub(super) fn wait(root: &Root, driver_root: &Path) {
    let start = Instant::now();
    while is_coming(root, driver_root) {
        if start.elapsed() > LIMIT {
            log::say("gpu-container: udev has not loaded the driver in 60 s");
            return;
        }
        sleep(STEP);
    }
}

fn is_coming(root: &Root, driver_root: &Path) -> bool {
    root.exists(UDEV_QUEUE)
        && has_gpu_without_driver(root)
        && installed_version(root, driver_root).is_some()
}

fn has_gpu_without_driver(root: &Root) -> bool {
    let devices = root.read_dir(PCI).unwrap_or_default();
    let paths = devices.iter().map(|d| Path::new(PCI).join(d));
    // A GPU that is bound to nouveau or vfio has a driver.
    paths
        .filter(|d| is_gpu(root, d))
        .any(|d| !root.exists(d.join("driver")))
}

/// Whether the device is NVIDIA's and a display controller (PCI Code and ID Assignment, class 03).
fn is_gpu(root: &Root, device: &Path) -> bool {
    let text = |name| root.read_to_string(device.join(name)).unwrap_or_default();
    text("vendor").trim() == "0x10de" && text("class").starts_with("0x03")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_an_installed_driver_that_is_not_bound_yet_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let root = Root::open(dir.path()).unwrap();
        let is_coming = || is_coming(&root, Path::new("/"));
        let gpu = "sys/bus/pci/devices/0000:3b:00.0";
        write(&format!("{gpu}/vendor"), "0x10de\n");
        write(&format!("{gpu}/class"), "0x030200\n");
        let library = fs::read(std::env::current_exe().unwrap()).unwrap();
        fs::create_dir_all(dir.path().join("usr/lib64")).unwrap();
        fs::write(dir.path().join("usr/lib64/libcuda.so.580.65.06"), library).unwrap();
        assert!(!is_coming(), "udev is done");
        write("run/udev/queue", "");
        assert!(is_coming());
        fs::create_dir_all(dir.path().join(gpu).join("driver")).unwrap();
        assert!(!is_coming(), "it has one");
        fs::remove_dir(dir.path().join(gpu).join("driver")).unwrap();
        write(&format!("{gpu}/class"), "0x0c0330\n");
        assert!(!is_coming(), "no GPU");
        write(&format!("{gpu}/class"), "0x030000\n");
        fs::remove_dir_all(dir.path().join("usr")).unwrap();
        assert!(!is_coming(), "no driver is installed");
    }
}
