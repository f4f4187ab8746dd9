//! Plans the files that describe this host's GPUs to all engines: the CDI spec, the stored
//! inventory and the links in /dev/char.

use std::path::Path;

use gpu_host::{Inventory, Mismatch, Options, discover};
use gpu_inject::generate::{self, host_files, inventory_store};

use crate::error::Error;
use crate::error::invocation::Invocation;
use crate::error::unsupported::Unsupported;
use crate::host::Host;
use crate::host::wait_limit::WaitLimit;
use crate::model::change::{Change, MergeKind};
use crate::setup::{dev_char, driver_answer};

/// The key of the policy that names the directory of the driver's files.
const ROOT_KEY: &str = "nvidia-container-cli.root";

/// The driver and GPUs of the host. On a running host NVML is asked, too, and waited for as long as a user would.
pub fn inventory(host: &Host) -> Result<Inventory, Error> {
    inventory_within(host, driver_answer::SOON)
}

/// The same, with this limit for NVML's answer.
pub fn inventory_within(host: &Host, patience: WaitLimit) -> Result<Inventory, Error> {
    if host.is_image() {
        return Ok(Inventory::default());
    }
    let options = Options {
        driver_root: host.driver_root.clone(),
        nvml: driver_answer::within(host, patience),
        ..Options::new(host.root().clone())
    };
    let inventory = discover(&options).map_err(gpu_inject::Error::from)?;
    Ok(with_stored_gpus(host, inventory))
}

/// Keeps what an earlier run knew of the GPUs if NVML is silent and they are the same: the kernel's list lacks UUIDs and
/// profiles of MIG devices, and a spec by it would lose their names.
fn with_stored_gpus(host: &Host, inventory: Inventory) -> Inventory {
    if inventory.nvml_silence.is_none() {
        return inventory;
    }
    match inventory_store::load(host.root()) {
        Some(stored) if stored.driver_root == inventory.driver_root => Inventory {
            gpus: stored.gpus,
            disputed: stored.disputed,
            driver: inventory.driver.map(|driver| gpu_host::Driver {
                cuda: stored.driver.and_then(|d| d.cuda).or(driver.cuda),
                ..driver
            }),
            ..inventory
        },
        _ => inventory,
    }
}

/// A message if the driver's libraries do not match the loaded module: no container would get a
/// working driver.
pub fn mismatch(host: &Host, inventory: &Inventory) -> Option<String> {
    let options = Options {
        driver_root: host.driver_root.clone(),
        ..Options::new(host.root().clone())
    };
    mismatch_with(&options, inventory)
}

/// The same for an inventory that was made with these options.
pub fn mismatch_with(options: &Options, inventory: &Inventory) -> Option<String> {
    let mismatch = gpu_host::mismatch(options, inventory)?;
    let way_out = match &mismatch {
        // The error's own message is sufficient.
        Mismatch::Versions { .. } => String::new(),
        Mismatch::NoLibraries {
            elsewhere: None, ..
        } => format!(
            "; install the driver's user space, or say where it is with {}",
            Invocation::DriverRoot
        ),
        Mismatch::NoLibraries {
            elsewhere: Some(root),
            ..
        } => format!(
            ": {}, or for this once {}",
            Invocation::ConfigSet(ROOT_KEY, &root.display().to_string()),
            Invocation::DriverRootAt(root)
        ),
    };
    Some(format!("{mismatch}{way_out}"))
}

pub fn no_driver(host: &Host) -> Error {
    let installed = gpu_host::installed_version(host.root(), &host.driver_root);
    Error::Unsupported(match installed {
        Some(version) => Unsupported::DriverNotLoaded { version },
        None => Unsupported::NoDriver,
    })
}

/// The changes that bring the CDI spec, the stored inventory and the links up to date.
pub fn described(host: &Host, inventory: &Inventory) -> Result<Vec<Change>, Error> {
    let gpus = match inventory.gpus.len() {
        1 => "1 GPU".to_owned(),
        n => format!("{n} GPUs"),
    };
    let mut changes = Vec::new();
    for (path, after) in host_files::files(host.root(), inventory)? {
        let why = match path {
            generate::SPEC_PATH => format!("CDI: {gpus}, kept fresh by gpusetup-cdi.service"),
            inventory_store::PATH => "so that container starts need not look at the host".into(),
            _ => "so that containers make no device nodes on their own".into(),
        };
        let path = Path::new(path);
        changes.push(Change {
            path: path.to_owned(),
            before: host.text(path)?,
            after: Some(after),
            mode: 0o644,
            why,
            kind: MergeKind::Generated,
        });
    }
    changes.extend(dev_char::links(host, inventory)?);
    changes.retain(Change::is_needed);
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use gpu_host::{DisputedGpu, PciAddress, freshness};

    use super::*;

    #[test]
    fn while_nvml_is_silent_what_was_known_of_the_same_gpus_stays() {
        let dir = tempfile::tempdir().unwrap();
        let version = dir.path().join("proc/driver/nvidia/version");
        fs::create_dir_all(version.parent().unwrap()).unwrap();
        fs::write(&version, "NVRM version: x 580.65.06\n").unwrap();
        let host = Host::open(dir.path(), Path::new("/")).unwrap();
        let described = Inventory {
            schema: gpu_host::inventory::SCHEMA,
            driver_root: "/".into(),
            freshness: freshness(host.root(), Path::new("/")),
            ..Inventory::default()
        };
        let left_out = DisputedGpu {
            index: 1,
            pci: PciAddress::default(),
            uuid: None,
            why: "NVML does not have it".into(),
        };
        let known = Inventory {
            disputed: vec![left_out],
            ..described.clone()
        };
        inventory_store::store(host.root(), &known).unwrap();
        let silent = Inventory {
            nvml_silence: Some("no answer".into()),
            ..described.clone()
        };
        assert_eq!(
            with_stored_gpus(&host, silent.clone()).disputed,
            known.disputed
        );
        // An answer counts.
        assert_eq!(with_stored_gpus(&host, described).disputed, []);
        fs::write(&version, "NVRM version: x 580.95.05\n").unwrap();
        assert_eq!(with_stored_gpus(&host, silent).disputed, []);
    }
}
