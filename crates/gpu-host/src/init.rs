//! Which service manager runs.

use serde::Serialize;

use crate::root::Root;

/// The running service manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// systemd is PID 1.
    Systemd,
    /// `OpenRC`.
    OpenRc,
    /// Anything else, or nothing: a container, a chroot, a directory tree.
    Other,
}

/// systemd by the test of `sd_booted(3)`, `OpenRC` by its state directory.
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
