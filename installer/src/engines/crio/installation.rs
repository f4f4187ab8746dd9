//! The version of CRI-O and the files that it reads.

use std::path::PathBuf;

use gpu_host::init;

use super::config::MergedConfig;
use super::given::GivenSetting;
use crate::error::Error;
use crate::host::Host;
use crate::host::service::{Manager, Service};
use crate::host::systemd_unit;

/// Sorts after `99-nvidia.toml`, the name that others use: of two tables of one runtime, the later
/// counts.
const DROP_IN: &str = "99-zz-gpusetup.conf";
/// The first version that reads a drop-in directory (CRI-O 1.18, pkg/config).
pub(super) const DROP_INS: (u32, u32) = (1, 18);

/// A CRI-O on this host.
pub(super) struct Installation {
    /// `None` if unknown; it is then treated as a new one.
    pub(super) version: Option<(u32, u32)>,
    /// The main configuration file.
    pub(super) config: PathBuf,
    /// The drop-in directory.
    pub(super) dir: PathBuf,
    /// What its flags and variables say.
    pub(super) given: Vec<GivenSetting>,
    /// Directories in which programs of its own are found, in front of the usual ones: the PATH that its unit gives it.
    pub(super) path: Vec<PathBuf>,
}

impl Installation {
    pub(super) fn is_before(&self, version: (u32, u32)) -> bool {
        self.version.is_some_and(|v| v < version)
    }

    pub(super) fn drop_in(&self) -> PathBuf {
        self.dir.join(DROP_IN)
    }

    /// The file we write.
    pub(super) fn file(&self) -> PathBuf {
        if self.is_before(DROP_INS) {
            self.config.clone()
        } else {
            self.drop_in()
        }
    }

    /// What CRI-O reads apart from our drop-in.
    pub(super) fn merged(&self, host: &Host) -> Result<MergedConfig, Error> {
        let ours = self.drop_in();
        MergedConfig::read(host, &self.config, &self.dir, &ours, &self.given)
    }
}

/// The name of its unit: packages before 1.18 call it `cri-o`; later ones have that name as an
/// alias.
pub(super) fn service_name(host: &Host) -> String {
    let has = |name| systemd_unit::is_there(host, name);
    let old = has("cri-o.service") && !has("crio.service");
    if old { "cri-o.service" } else { "crio.service" }.into()
}

/// The service that runs it.
pub(super) fn service(host: &Host) -> Service {
    match init::detect(host.root()) {
        init::Init::OpenRc => Service {
            name: "crio".into(),
            manager: Manager::OpenRc,
        },
        _ => Service::systemd(service_name(host)),
    }
}
