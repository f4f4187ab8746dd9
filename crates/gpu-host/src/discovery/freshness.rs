//! Decides whether a stored inventory still describes this host.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::options::dev_root;
use super::{features, kernel_list, nodes, tegra, wsl};
use crate::driver::version::loaded_version;
use crate::inventory::{Freshness, GpuKey, Inventory, SCHEMA};
use crate::root::Root;

/// The freshness key of the host as it is now. A field that cannot be read is empty.
pub fn freshness(root: &Root, driver_root: &Path) -> Freshness {
    let ld_cache = root
        .metadata(driver_root.join("etc/ld.so.cache"))
        .ok()
        .map(|m| {
            (
                m.ino(),
                m.mtime()
                    .saturating_mul(1_000_000_000)
                    .saturating_add(m.mtime_nsec()),
            )
        });
    Freshness {
        boot_id: root
            .read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|s| s.trim().to_owned())
            .unwrap_or_default(),
        driver_version: loaded_version(root).unwrap_or_default(),
        ld_cache,
        gpus: gpus(root, driver_root),
        majors: nodes::nvidia_majors(root),
        devices: devices(root, driver_root),
    }
}

impl Inventory {
    /// Whether this inventory, stored earlier, still describes the host.
    pub fn is_fresh(&self, root: &Root) -> bool {
        let now = freshness(root, &self.driver_root);
        // A GPU may have been left out because its node was not there.
        let has_same_nodes = self.disputed.is_empty() || self.freshness == now;
        self.schema == SCHEMA && self.freshness.is_still(&now) && has_same_nodes
    }
}

fn gpus(root: &Root, driver_root: &Path) -> Option<Vec<GpuKey>> {
    let dev = dev_root(root, driver_root).join("dev");
    let keys = kernel_list::listed(root)
        .ok()?
        .into_iter()
        .map(|gpu| GpuKey {
            node: gpu
                .minor
                .and_then(|minor| nodes::device_number(root, &dev.join(format!("nvidia{minor}")))),
            pci: gpu.pci,
            minor: gpu.minor,
            uuid: gpu.uuid,
            is_excluded: gpu.is_excluded,
        });
    Some(keys.collect())
}

fn devices(root: &Root, driver_root: &Path) -> u64 {
    let mut hash = Fnv::new();
    for gpu in paths_in(root, Path::new("/proc/driver/nvidia/capabilities")) {
        add_slices(&mut hash, root, &gpu.join("mig"));
    }
    features::freshness_names(root, &dev_root(root, driver_root), |name| {
        hash.add(name.as_os_str());
    });
    for store in paths_in(root, Path::new(wsl::STORES)) {
        hash.add(store.as_os_str());
    }
    // Administrators edit the CSV files, so their modification times count too.
    for list in paths_in(root, Path::new(tegra::CSV_DIR)) {
        hash.add(list.as_os_str());
        let changed = root.metadata(&list).map(|m| (m.mtime(), m.mtime_nsec()));
        hash.add(OsStr::new(&format!("{changed:?}")));
    }
    hash.0
}

/// Adds the MIG instances of a GPU. procfs has a directory for each GPU instance, and in it one
/// for each compute instance. There can be hundreds, and every container start waits for this.
fn add_slices(hash: &mut Fnv, root: &Root, mig: &Path) {
    let Ok(dir) = root.open_dir(mig) else {
        return;
    };
    for instance in root.entries(&dir, mig).unwrap_or_default() {
        let instance = mig.join(instance);
        hash.add(instance.as_os_str());
        let computes = root
            .open_dir_in(&dir, &instance)
            .and_then(|inner| root.entries(&inner, &instance));
        for compute in computes.unwrap_or_default() {
            hash.add_below(&instance, &compute);
        }
    }
}

fn paths_in(root: &Root, dir: &Path) -> Vec<PathBuf> {
    let names = root.read_dir(dir).unwrap_or_default();
    names.into_iter().map(|n| dir.join(n)).collect()
}

/// FNV-1a, 64 bit. Unlike std's hasher it gives the same value on every build.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, text: &OsStr) {
        self.take(text.as_bytes());
        self.take(&[0]);
    }

    /// Adds `dir/name` without allocating the joined path.
    fn add_below(&mut self, dir: &Path, name: &OsStr) {
        self.take(dir.as_os_str().as_bytes());
        self.take(b"/");
        self.add(name);
    }

    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
