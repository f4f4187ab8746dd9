//! What every command that changes the host begins with.

use crate::engines::docker;
use crate::error::Error;
use crate::host::Host;

/// Whatever changes the host needs root, unless the tree is the user's own, or the Docker.
pub fn ensure_root(host: &Host) -> Result<(), Error> {
    match host.user() {
        Some(user) if docker::is_rootless_for(host, user) => Ok(()),
        _ => ensure_root_itself(host),
    }
}

/// The same for what is of all users.
pub fn ensure_root_itself(host: &Host) -> Result<(), Error> {
    if !host.is_live() || nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(Error::Usage(
        "this changes the host: run it as root, with sudo".into(),
    ))
}
