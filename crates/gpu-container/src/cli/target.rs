//! Finds the container that `configure` acts on: a process in its namespaces, and its root file
//! system.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use gpu_inject::Error;
use gpu_inject::live::{Pidfd, Target};

use super::configure_options::Configure;
use super::failure::{Failure, Phase};
use crate::log::Advised;
use crate::oci_bundle::HookState;

/// The container given by `--pid`, `--pidfd` or `--oci-state`, else the one in whose namespaces we
/// were started, as in libnvidia-container's standalone mode. The latter is not found by
/// `getppid()`, because `/proc` may belong to another pid namespace, as it does in LXC's hook.
pub(super) fn find(options: &Configure, rootfs: Option<PathBuf>) -> Result<Target, Failure> {
    let containers = [
        options.pid.is_some(),
        options.pidfd.is_some(),
        options.oci_state,
    ];
    if containers.into_iter().filter(|g| *g).count() > 1 {
        let why = "--pid, --pidfd and --oci-state exclude each other";
        return Err(Phase::Input.failure(why));
    }
    let mut config = None;
    let mut process = match (options.pid, options.pidfd) {
        (Some(pid), _) => Some(Pidfd::open(pid).map_err(failed)?),
        (_, Some(fd)) => Some(Pidfd::inherited(fd).map_err(failed)?),
        _ => None,
    };
    let invalid = || Phase::Input.failure("invalid rootfs directory");
    let rootfs = if options.oci_state {
        let state = HookState::from_stdin().map_err(failed)?;
        process = Some(state.process().map_err(failed)?);
        config = Some(state.bundle.config_path());
        match rootfs {
            Some(rootfs) => rootfs,
            None => state.bundle.rootfs().map_err(failed)?,
        }
    } else {
        rootfs.ok_or_else(invalid)?
    };
    if !rootfs.is_absolute() || is_our_root(&rootfs) {
        return Err(invalid());
    }
    let target = match process {
        Some(process) => Target::of_process(&process, rootfs),
        None => Target::of_caller(rootfs),
    };
    let mut target = target.map_err(failed)?;
    target.no_cgroups = options.no_cgroups;
    target.no_devbind = options.no_devbind;
    target.config = config;
    Ok(target)
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: Error) -> Failure {
    Phase::Container.failure(Advised(&error))
}

/// Whether this is our own root by another name, such as a link. False if it does not exist in our namespace.
fn is_our_root(rootfs: &Path) -> bool {
    let id = |path| fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    id(rootfs).is_some_and(|rootfs_id| Some(rootfs_id) == id(Path::new("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_our_root_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("rootfs");
        std::os::unix::fs::symlink("/", &link).unwrap();
        let refused = find(&Configure::default(), Some(link)).unwrap_err();
        assert_eq!(refused, Phase::Input.failure("invalid rootfs directory"));
    }

    #[test]
    fn two_options_for_the_process_are_refused() {
        let both = Configure {
            pid: Some(1),
            pidfd: Some(3),
            ..Configure::default()
        };
        assert_eq!(
            find(&both, Some("/r".into())).unwrap_err().phase,
            Phase::Input
        );
    }

    #[test]
    fn a_descriptor_that_is_not_open_is_refused() {
        let none = Configure {
            pidfd: Some(999_999),
            ..Configure::default()
        };
        let refused = find(&none, Some("/r".into())).unwrap_err();
        assert_eq!(refused.phase, Phase::Container);
    }
}
