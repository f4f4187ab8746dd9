//! Which container `configure` is about: a process in its namespaces, and its root file
//! system.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::configure_options::Configure;
use gpu_inject::live;

use super::failure::{Failure, Phase};
use crate::bundle::State;

/// By `--pid`, `--pidfd` or `--oci-state`; else the process that started us, as with the
/// peer's standalone mode: its namespaces are ours.
pub(super) fn find(options: &Configure, rootfs: Option<PathBuf>) -> Result<live::Target, Failure> {
    let given = [
        options.pid.is_some(),
        options.pidfd.is_some(),
        options.oci_state,
    ];
    if given.into_iter().filter(|g| *g).count() > 1 {
        let why = "--pid, --pidfd and --oci-state exclude each other";
        return Err(Phase::Input.failure(why));
    }
    let mut target = live::Target {
        no_cgroups: options.no_cgroups,
        no_devbind: options.no_devbind,
        ..live::Target::default()
    };
    if options.oci_state {
        (target.pid, target.rootfs) = of_state(rootfs)?;
    } else {
        target.rootfs = rootfs.ok_or_else(|| Phase::Input.failure("invalid rootfs directory"))?;
        target.pid = options.pid.unwrap_or_else(parent);
        let failed = |e: gpu_inject::Error| Phase::Container.failure(e.to_string());
        let pidfd = options.pidfd.map(live::inherited_pidfd).transpose();
        target.pidfd = pidfd.map_err(failed)?;
    }
    if is_our_root(&target.rootfs) {
        return Err(Phase::Input.failure("invalid rootfs directory"));
    }
    Ok(target)
}

fn parent() -> i32 {
    match nix::unistd::getppid().as_raw() {
        // It is outside of our pid namespace, which we were put into; so we stand for it.
        0 => nix::unistd::getpid().as_raw(),
        pid => pid,
    }
}

fn of_state(rootfs: Option<PathBuf>) -> Result<(i32, PathBuf), Failure> {
    let failed = |e: gpu_inject::Error| Phase::Container.failure(e.to_string());
    let state = State::from_stdin().map_err(failed)?;
    if state.pid <= 0 {
        let why = "container state on standard input: no pid";
        return Err(Phase::Container.failure(why));
    }
    let rootfs = match rootfs {
        Some(rootfs) => rootfs,
        None => state.bundle.rootfs().map_err(failed)?,
    };
    if !rootfs.is_absolute() {
        return Err(Phase::Input.failure("invalid rootfs directory"));
    }
    Ok((state.pid, rootfs))
}

/// By another name, such as a link. Where only the container sees it, it is not ours.
fn is_our_root(rootfs: &Path) -> bool {
    let id = |path| fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    id(rootfs).is_some_and(|found| Some(found) == id(Path::new("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_started_us_is_the_default() {
        let found = find(&Configure::default(), Some("/var/rootfs".into())).unwrap();
        assert_eq!(found.pid, std::os::unix::process::parent_id().cast_signed());
    }

    #[test]
    fn a_link_to_our_root_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("rootfs");
        std::os::unix::fs::symlink("/", &link).unwrap();
        let refused = find(&Configure::default(), Some(link)).unwrap_err();
        assert_eq!(refused, Phase::Input.failure("invalid rootfs directory"));
    }

    #[test]
    fn one_way_to_name_the_process() {
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
    fn a_descriptor_that_is_none_is_refused() {
        let none = Configure {
            pidfd: Some(999_999),
            ..Configure::default()
        };
        let refused = find(&none, Some("/r".into())).unwrap_err();
        assert_eq!(refused.phase, Phase::Container);
    }
}
