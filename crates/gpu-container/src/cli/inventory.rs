//! What this host has, as far as the options let it count.

use gpu_host::Inventory;
use gpu_inject::host::{Host, Look};

use super::failure::{self, Failure};
use super::kmods;
use super::log::Log;
use super::options::{Global, LeftOut};

/// This host, as far as its driver can be used.
pub(super) fn inventory(global: &Global, log: &Log) -> Result<Inventory, Failure> {
    let look = Look {
        driver_root: global.root.clone(),
        ld_cache: global.ld_cache.clone(),
        config: global.config.clone(),
        ..Look::default()
    };
    let host = Host::look(&look).map_err(|e| failure::of_plan(&e))?;
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
    /// Takes what is left out from what the host has.
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
    fn what_is_left_out_is_left_out() {
        let left = |left_out: LeftOut| {
            let mut host = testing::host();
            left_out.take_from(&mut host);
            host.driver.unwrap().files.len()
        };
        let all = left(LeftOut::default());
        let without = LeftOut {
            persistenced: true,
            ..LeftOut::default()
        };
        assert_eq!(left(without), all - 1);
        let without = LeftOut {
            persistenced: true,
            fabricmanager: true,
            gsp_firmware: true,
        };
        assert_eq!(left(without), all - 3);
    }
}
