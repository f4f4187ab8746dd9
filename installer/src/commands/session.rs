//! What a command begins with: the host that the command line names, and root where it changes that host.

use std::path::Path;

use gpu_inject::policy::Policy;

use crate::cli::args::Common;
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

/// The host of a command line. Without a driver root it is the policy's: by that one containers are started and the
/// spec is written at boot. What is wrong with a policy is said where it counts.
pub fn open_host(common: &Common) -> Result<Host, Error> {
    let mut host = Host::open(&common.root, Path::new("/"))?;
    host.driver_root = match &common.driver_root {
        Some(given) => given.clone(),
        None => Policy::load(host.root()).unwrap_or_default().driver_root,
    };
    Ok(host)
}
