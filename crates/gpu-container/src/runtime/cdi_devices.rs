//! Devices by CDI: what the specs of this host say, applied as an engine would.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use cdi::{LazyJson, NodeStat, QualifiedName, Registry};
use gpu_inject::policy::{Mode, Policy};
use gpu_inject::request::{AllowedName, Visible};
use gpu_inject::{Error, Excerpt};
use nix::sys::stat::{major, minor};

/// The kind by which our own plan is asked for, whatever the mode
/// (nvidia-container-toolkit `internal/modifier/cdi.go`).
const OWN: &str = "runtime.nvidia.com/gpu";

/// The devices to look for in CDI specs; `None` where our own plan is to be made.
///
/// In `cdi` mode every name, those that are not qualified being of the default kind; in
/// `auto` mode where all are qualified. `none` has no device in any spec, so that the
/// driver's files without a GPU are always of our plan.
pub(super) fn names(visible: &Visible, mode: Mode) -> Result<Option<&[AllowedName]>, Error> {
    let Visible::Listed(names) = visible else {
        return Ok(None);
    };
    if !matches!(mode, Mode::Cdi | Mode::Auto) || names.iter().any(|n| n.cdi().is_none()) {
        return Ok(None);
    }
    if kinds(names).all(|kind| kind != OWN) {
        return Ok(Some(names));
    }
    match kinds(names).find(|kind| *kind != OWN) {
        None => Ok(None),
        Some(other) => {
            let other = Excerpt::of(other);
            let why = format!(
                "a device of {other} is asked for together with one of {OWN}; ask for one kind or the other"
            );
            Err(Error::State(why.into()))
        }
    }
}

fn kinds(names: &[AllowedName]) -> impl Iterator<Item = &str> {
    names.iter().filter_map(|n| Some(n.cdi()?.kind.as_str()))
}

/// Applies them. False where no spec has them and our own plan can be tried: in `auto` mode,
/// for devices of ours on a host whose spec has not been written.
pub(super) fn apply(
    config: &mut LazyJson<'_>,
    names: &[AllowedName],
    mode: Mode,
    policy: &Policy,
) -> Result<bool, Error> {
    let registry = Registry::load_dirs(&policy.spec_dirs);
    let devices: Vec<QualifiedName> = names.iter().filter_map(|n| n.cdi().cloned()).collect();
    match registry.inject(config, &devices, &stat) {
        Ok(()) => Ok(true),
        Err(cdi::Error::Unknown { .. })
            if mode == Mode::Auto && kinds(names).all(|kind| kind.starts_with("nvidia.com/")) =>
        {
            Ok(false)
        }
        Err(e) => Err(e.into()),
    }
}

/// Specs are the host's own, so their nodes are looked up by name.
fn stat(path: &Path) -> std::io::Result<NodeStat> {
    let found = std::fs::metadata(path)?;
    let kind = found.file_type();
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
        major: i64::try_from(major(found.rdev())).unwrap_or(-1),
        minor: i64::try_from(minor(found.rdev())).unwrap_or(-1),
        mode: found.mode() & 0o7777,
        uid: found.uid(),
        gid: found.gid(),
    })
}

#[cfg(test)]
mod tests {
    use gpu_inject::oci::ContainerView;
    use gpu_inject::request::Request;
    use serde_json::json;

    use super::*;

    /// What a container's variable leads to.
    fn of(list: &str, mode: Mode) -> Result<Option<String>, Error> {
        let config = json!({"process": {"env": [format!("NVIDIA_VISIBLE_DEVICES={list}")]}});
        let policy = Policy {
            allowed_kinds: vec!["a.com/b".into()],
            ..Policy::default()
        };
        let request = Request::read_in(ContainerView::new(&config), &policy, mode)?;
        let found = names(&request.visible, mode)?;
        Ok(found.map(|names| {
            let names: Vec<String> = names.iter().map(|n| n.cdi().unwrap().to_string()).collect();
            names.join(" ")
        }))
    }

    fn found(list: &str, mode: Mode) -> Option<String> {
        of(list, mode).unwrap()
    }

    #[test]
    fn cdi_mode_takes_every_name_and_auto_only_qualified_ones() {
        let both = Some("a.com/b=c nvidia.com/gpu=0".to_owned());
        assert_eq!(found("a.com/b=c,0", Mode::Cdi), both);
        assert_eq!(
            found("all", Mode::Cdi).as_deref(),
            Some("nvidia.com/gpu=all")
        );
        assert_eq!(found("a.com/b=c,0", Mode::Auto), None);
        assert_eq!(found("all", Mode::Auto), None);
        let one = Some("a.com/b=c".to_owned());
        assert_eq!(found("a.com/b=c", Mode::Auto), one);
        assert_eq!(found("a.com/b=c", Mode::JitCdi), None);
        assert_eq!(found("none", Mode::Cdi), None);
        assert!(of("../x", Mode::Cdi).is_err());
    }

    #[test]
    fn the_runtimes_own_kind_is_our_plan_in_every_mode() {
        for mode in [Mode::Cdi, Mode::Auto] {
            assert_eq!(found("runtime.nvidia.com/gpu=0", mode), None);
            let mixed = of("runtime.nvidia.com/gpu=0,nvidia.com/gpu=0", mode);
            assert!(mixed.is_err());
        }
    }
}
