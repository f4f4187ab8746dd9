//! Detects which service manager runs.

use serde::{Deserialize, Serialize};

use crate::root::Root;

/// A service manager.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// systemd is PID 1.
    #[default]
    Systemd,
    /// `OpenRC`.
    OpenRc,
    /// Anything else, or nothing: a container, a chroot, a directory tree.
    Other,
}

/// Detects the running service manager: systemd as `sd_booted(3)` does, `OpenRC` by its state directory.
pub fn detect(root: &Root) -> Init {
    if root
        .symlink_metadata("/run/systemd/system")
        .is_ok_and(|m| m.is_dir())
    {
        Init::Systemd
    } else if root.exists("/run/openrc/softlevel") {
        Init::OpenRc
    } else {
        Init::Other
    }
}

/// Whether systemd runs, or would run if this tree were booted.
pub fn has_systemd(root: &Root) -> bool {
    detect(root) == Init::Systemd
        || ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"]
            .iter()
            .any(|program| root.exists(program))
}
