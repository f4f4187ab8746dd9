//! Gives a container CDI devices, by applying the specs of this host as an engine would.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use cdi::{LazyJson, NodeStat, QualifiedName, Registry};
use gpu_inject::policy::{Policy, RuntimeMode};
use gpu_inject::request::{AllowedName, Visible};
use gpu_inject::{Error, Excerpt};
use nix::sys::stat::{major, minor};

/// The kind that requests our own plan in every mode (nvidia-container-toolkit
/// `internal/modifier/cdi.go`).
const PLAN_KIND: &str = "runtime.nvidia.com/gpu";

/// The devices to look up in CDI specs; `None` if our own plan is to be used.
///
/// In `cdi` mode all names are looked up, unqualified ones with the default kind. In `auto` mode
/// they are looked up only if all are qualified. A request for the driver's files without a GPU
/// (`none`) always uses our plan, since no spec has such a device.
pub(super) fn names(visible: &Visible, mode: RuntimeMode) -> Result<Option<&[AllowedName]>, Error> {
    let Visible::Listed(names) = visible else {
        return Ok(None);
    };
    if !matches!(mode, RuntimeMode::Cdi | RuntimeMode::Auto)
        || names.iter().any(|n| n.cdi().is_none())
    {
        return Ok(None);
    }
    if kinds(names).all(|kind| kind != PLAN_KIND) {
        return Ok(Some(names));
    }
    match kinds(names).find(|kind| *kind != PLAN_KIND) {
        None => Ok(None),
        Some(other) => {
            let other = Excerpt::of(other);
            let why = format!(
                "a device of {other} is asked for together with one of {PLAN_KIND}; ask for one kind or the other"
            );
            Err(Error::State(why.into()))
        }
    }
}

fn kinds(names: &[AllowedName]) -> impl Iterator<Item = &str> {
    names.iter().filter_map(|n| Some(n.cdi()?.kind.as_str()))
}

/// Applies the CDI devices. False if no spec has them and our own plan can be used instead: in `auto`
/// mode, for NVIDIA's devices on a host whose spec has not been written.
pub(super) fn apply(
    config: &mut LazyJson<'_>,
    names: &[AllowedName],
    mode: RuntimeMode,
    policy: &Policy,
) -> Result<bool, Error> {
    let registry = Registry::load_dirs(&policy.spec_dirs);
    let devices: Vec<QualifiedName> = names.iter().filter_map(|n| n.cdi().cloned()).collect();
    match registry.inject(config, &devices, &stat) {
        Ok(()) => Ok(true),
        Err(cdi::Error::Unknown { .. })
            if mode == RuntimeMode::Auto
                && kinds(names).all(|kind| kind.starts_with("nvidia.com/")) =>
        {
            Ok(false)
        }
        Err(e) => Err(e.into()),
    }
}

/// Metadata of a device node in a spec. Specs are the host's own, so their paths are trusted.
fn stat(path: &Path) -> std::io::Result<NodeStat> {
    let metadata = std::fs::metadata(path)?;
    let kind = metadata.file_type();
    let kind = if kind.is_char_device() {
        'c'
    } else if kind.is_block_device() {
        'b'
    } else if kind.is_fifo() {
        'p'
    } else {
        return Err(std::io::Error::other("no device node"));
    };
    Ok(NodeStat {
        kind,
        major: i64::try_from(major(metadata.rdev())).unwrap_or(-1),
        minor: i64::try_from(minor(metadata.rdev())).unwrap_or(-1),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    })
}

#[cfg(test)]
mod tests {
    use gpu_inject::oci::ContainerView;
    use gpu_inject::request::Request;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_described_as_it_is() {
        use nix::sys::stat::{Mode, SFlag, makedev, mknod};

        if !skips::has(&[skips::Need::Root]) {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let kinds = [
            (SFlag::S_IFCHR, 'c', makedev(1, 3)),
            (SFlag::S_IFBLK, 'b', makedev(7, 200)),
            (SFlag::S_IFIFO, 'p', 0),
        ];
        for (flag, kind, number) in kinds {
            let path = dir.path().join(kind.to_string());
            mknod(&path, flag, Mode::empty(), number).unwrap();
            std::os::unix::fs::chown(&path, Some(7), Some(8)).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
            std::fs::set_permissions(&path, mode).unwrap();
            let expected = NodeStat {
                kind,
                major: i64::try_from(major(number)).unwrap(),
                minor: i64::try_from(minor(number)).unwrap(),
                mode: 0o640,
                uid: 7,
                gid: 8,
            };
            assert_eq!(stat(&path).unwrap(), expected);
        }
        assert!(stat(dir.path()).is_err());
    }

    /// The CDI devices for a value of a container's variable.
    fn try_names(list: &str, mode: RuntimeMode) -> Result<Option<String>, Error> {
        let config = json!({"process": {"env": [format!("NVIDIA_VISIBLE_DEVICES={list}")]}});
        let policy = Policy {
            allowed_kinds: vec!["a.com/b".into()],
            ..Policy::default()
        };
        let request = Request::read_in(ContainerView::new(&config), &policy, mode)?;
        let names = names(&request.visible, mode)?;
        Ok(names.map(|names| {
            let names: Vec<String> = names.iter().map(|n| n.cdi().unwrap().to_string()).collect();
            names.join(" ")
        }))
    }

    fn cdi_names(list: &str, mode: RuntimeMode) -> Option<String> {
        try_names(list, mode).unwrap()
    }

    #[test]
    fn cdi_mode_takes_every_name_and_auto_only_qualified_ones() {
        let both = Some("a.com/b=c nvidia.com/gpu=0".to_owned());
        assert_eq!(cdi_names("a.com/b=c,0", RuntimeMode::Cdi), both);
        assert_eq!(
            cdi_names("all", RuntimeMode::Cdi).as_deref(),
            Some("nvidia.com/gpu=all")
        );
        assert_eq!(cdi_names("a.com/b=c,0", RuntimeMode::Auto), None);
        assert_eq!(cdi_names("all", RuntimeMode::Auto), None);
        let one = Some("a.com/b=c".to_owned());
        assert_eq!(cdi_names("a.com/b=c", RuntimeMode::Auto), one);
        assert_eq!(cdi_names("a.com/b=c", RuntimeMode::JitCdi), None);
        assert_eq!(cdi_names("none", RuntimeMode::Cdi), None);
        assert!(try_names("../x", RuntimeMode::Cdi).is_err());
    }

    #[test]
    fn the_runtimes_own_kind_uses_our_plan_in_every_mode() {
        for mode in [RuntimeMode::Cdi, RuntimeMode::Auto] {
            assert_eq!(cdi_names("runtime.nvidia.com/gpu=0", mode), None);
            let mixed = try_names("runtime.nvidia.com/gpu=0,nvidia.com/gpu=0", mode);
            assert!(mixed.is_err());
        }
    }
}
