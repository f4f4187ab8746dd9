//! Whether a stored inventory still describes this host.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::options::dev_root;
use super::{features, tegra, wsl};
use crate::driver::version::loaded_version;
use crate::inventory::{Freshness, Inventory, SCHEMA};
use crate::root::Root;

/// The key of the host as it is now. What cannot be read stays empty.
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
        devices: devices(root, driver_root),
    }
}

impl Inventory {
    /// Whether this inventory, stored earlier, still describes the host.
    pub fn is_fresh(&self, root: &Root) -> bool {
        self.schema == SCHEMA && self.freshness == freshness(root, &self.driver_root)
    }
}

fn devices(root: &Root, driver_root: &Path) -> u64 {
    let mut hash = Fnv::new();
    for gpu in names(root, Path::new("/proc/driver/nvidia/gpus")) {
        hash.add(gpu.as_os_str());
    }
    for gpu in names(root, Path::new("/proc/driver/nvidia/capabilities")) {
        add_slices(&mut hash, root, &gpu.join("mig"));
    }
    features::names(root, &dev_root(root, driver_root), |name| {
        hash.add(name.as_os_str());
    });
    for store in names(root, Path::new(wsl::STORES)) {
        hash.add(store.as_os_str());
    }
    // People edit these.
    for list in names(root, Path::new(tegra::CSV_DIR)) {
        hash.add(list.as_os_str());
        let changed = root.metadata(&list).map(|m| (m.mtime(), m.mtime_nsec()));
        hash.add(OsStr::new(&format!("{changed:?}")));
    }
    hash.0
}

/// A directory for each GPU instance, in that one for each compute instance. There can be
/// hundreds, and every container's start waits for them.
fn add_slices(hash: &mut Fnv, root: &Root, mig: &Path) {
    let Ok(dir) = root.open_dir(mig) else {
        return;
    };
    for instance in root.entries(&dir, mig).unwrap_or_default() {
        let instance = mig.join(instance);
        hash.add(instance.as_os_str());
        let found = root.open_dir_in(&dir, &instance);
        let found = found.and_then(|inner| root.entries(&inner, &instance));
        for compute in found.unwrap_or_default() {
            hash.add_below(&instance, &compute);
        }
    }
}

fn names(root: &Root, dir: &Path) -> Vec<PathBuf> {
    let found = root.read_dir(dir).unwrap_or_default();
    found.into_iter().map(|n| dir.join(n)).collect()
}

/// FNV-1a, 64 bit: the same on every build, unlike std's hasher.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, text: &OsStr) {
        self.take(text.as_bytes());
        self.take(&[0]);
    }

    /// The path of that name in that directory, without it being made.
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
