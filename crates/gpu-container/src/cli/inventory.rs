//! Loads this host's inventory, without the parts that options leave out.

use gpu_host::Inventory;
use gpu_inject::host::{GpuHost, HostOptions};

use super::failure::{self, Failure};
use super::kmods;
use super::log::Log;
use super::options::{Global, LeftOut};

/// Loads this host's inventory. An error if no driver is loaded.
pub(super) fn inventory(global: &Global, log: &Log) -> Result<Inventory, Failure> {
    let options = HostOptions {
        driver_root: global.root.clone(),
        ld_cache: global.ld_cache.clone(),
        config: global.config.clone(),
        ..HostOptions::default()
    };
    let host = GpuHost::load(&options).map_err(|e| failure::of_plan(&e))?;
    let inventory = host.inventory();
    let Some(driver) = &inventory.driver else {
        return Err(failure::of_plan(&gpu_inject::Error::NoDriver));
    };
    log.info(format!(
        "driver {} with {} files below {}, {} GPUs",
        driver.version,
        driver.files.len(),
        inventory.driver_root.display(),
        inventory.gpus.len()
    ));
    if global.load_kmods {
        kmods::make_nodes(inventory, log);
    }
    Ok(inventory.clone())
}

impl LeftOut {
    /// Removes the parts that are left out from the inventory.
    pub(super) fn take_from(self, inventory: &mut Inventory) {
        use gpu_host::FileKind::{Firmware, Socket};
        let Some(driver) = &mut inventory.driver else {
            return;
        };
        driver.files.retain(|file| {
            let has = |part: &str| file.path.to_string_lossy().contains(part);
            let persistenced = file.kind == Socket && has("nvidia-persistenced");
            let fabricmanager = file.kind == Socket && has("nvidia-fabricmanager");
            !(self.persistenced && persistenced
                || self.fabricmanager && fabricmanager
                || self.gsp_firmware && file.kind == Firmware)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing;

    #[test]
    fn the_parts_to_leave_out_are_removed() {
        let remaining = |left_out: LeftOut| {
            let mut host = testing::host();
            left_out.take_from(&mut host);
            host.driver.unwrap().files.len()
        };
        let all = remaining(LeftOut::default());
        let without = LeftOut {
            persistenced: true,
            ..LeftOut::default()
        };
        assert_eq!(remaining(without), all - 1);
        let without = LeftOut {
            persistenced: true,
            fabricmanager: true,
            gsp_firmware: true,
        };
        assert_eq!(remaining(without), all - 3);
    }
}
