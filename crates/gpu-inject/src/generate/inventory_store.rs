//! Stores the inventory, so that a container start does not have to discover the host.

use std::io::Write;
use std::path::{Path, PathBuf};

use gpu_host::{Inventory, NvmlUse, Options, Root, Source, discover, platform};

use crate::error::Error;
use crate::policy::Policy;

/// The stored inventory's file. It is in /run so that a reboot removes it.
pub const PATH: &str = "/run/gpusetup/inventory.json";

/// The content of the file.
pub fn to_bytes(inventory: &Inventory) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Inventory {
        path: PATH.into(),
        source,
    };
    let mut bytes = serde_json::to_vec(inventory).map_err(failed)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The stored inventory, if it can be read and still describes the host.
pub fn load(root: &Root) -> Option<Inventory> {
    let inventory: Inventory = serde_json::from_str(&root.read_to_string(PATH).ok()?).ok()?;
    inventory.is_fresh(root).then_some(inventory)
}

/// Stores the inventory, replacing the file atomically.
pub fn store(root: &Root, inventory: &Inventory) -> Result<(), Error> {
    let path = root.host_path(PATH);
    let dir = path.parent().unwrap_or(Path::new("/"));
    let failed = |e| Error::host(&path)(e);
    std::fs::create_dir_all(dir).map_err(failed)?;
    let temporary = dir.join(format!(".inventory.{}", std::process::id()));
    let mut file = std::fs::File::create(&temporary).map_err(failed)?;
    file.write_all(&to_bytes(inventory)?).map_err(failed)?;
    std::fs::rename(&temporary, &path).map_err(failed)
}

/// The inventory to plan with: the one that the policy names, else the stored one if it is fresh, else by discovery.
pub fn current(root: &Root, policy: &Policy) -> Result<Inventory, Error> {
    if let Some(path) = &policy.inventory {
        let text = root.read_to_string(path).map_err(Error::host(path))?;
        return serde_json::from_str(&text).map_err(|source| Error::Inventory {
            path: path.clone(),
            source,
        });
    }
    if let Some(inventory) = load(root) {
        return Ok(inventory);
    }
    let csv_files = csv_files(root, policy);
    let options = Options {
        driver_root: policy.driver_root.clone(),
        nvml: NvmlUse::No,
        source: (!csv_files.is_empty()).then_some(Source::Tegra),
        csv_files,
        ..Options::new(root.clone())
    };
    Ok(discover(&options)?)
}

/// The CSV lists of a Tegra, if the policy names a directory other than the usual one.
fn csv_files(root: &Root, policy: &Policy) -> Vec<PathBuf> {
    if policy.csv_dir == Policy::default().csv_dir || platform::detect(root).jetson.is_none() {
        return Vec::new();
    }
    let names = root.read_dir(&policy.csv_dir).unwrap_or_default();
    let paths = names.iter().map(|name| policy.csv_dir.join(name));
    paths
        .filter(|p| p.extension().is_some_and(|e| e == "csv"))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn csv_lists_are_read_from_the_policys_directory() {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("etc/nv_tegra_release", "# R36 (release), REVISION: 4.7\n"),
            ("lists/a.csv", "lib, /usr/lib/libtegra.so.1\n"),
            ("usr/lib/libtegra.so.1", "a library"),
        ] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let root = Root::open(dir.path()).unwrap();
        let mut policy = Policy::default();
        let files = |policy: &Policy| {
            let inventory = current(&root, policy).unwrap();
            inventory.driver.map_or(0, |d| d.files.len())
        };
        assert_eq!(files(&policy), 0);
        policy.csv_dir = "/lists".into();
        assert!(files(&policy) > 0);
        fs::remove_file(dir.path().join("etc/nv_tegra_release")).unwrap();
        assert_eq!(files(&policy), 0);
    }
}
