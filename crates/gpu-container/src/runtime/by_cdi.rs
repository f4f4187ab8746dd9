//! Devices by CDI: what the specs of this host say, applied as an engine would.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use cdi::{Document, NodeStat, QualifiedName, Registry};
use gpu_inject::policy::{Mode, Policy};
use gpu_inject::request::Visible;
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
pub(super) fn names(
    visible: &Visible,
    mode: Mode,
    policy: &Policy,
) -> Result<Option<Vec<QualifiedName>>, Error> {
    let list = match visible {
        Visible::All => vec!["all".to_owned()],
        Visible::These(list) => list.clone(),
        Visible::NotAsked | Visible::NoGpu => return Ok(None),
    };
    let qualify = |name: &String| -> Result<QualifiedName, Error> {
        let parsed = name.parse();
        if parsed.is_ok() || mode != Mode::Cdi {
            return Ok(parsed?);
        }
        Ok(format!("{}={name}", policy.default_kind).parse()?)
    };
    let names: Vec<QualifiedName> = match mode {
        Mode::Cdi => list.iter().map(qualify).collect::<Result<_, _>>()?,
        Mode::Auto => match list.iter().map(qualify).collect() {
            Ok(names) => names,
            Err(_) => return Ok(None),
        },
        Mode::Legacy | Mode::JitCdi | Mode::Csv => return Ok(None),
    };
    if names.iter().all(|n| n.kind != OWN) {
        return Ok(Some(names));
    }
    if let Some(other) = names.iter().find(|n| n.kind != OWN) {
        let other = Excerpt::of(other.to_string());
        let why = format!(
            "{other} is asked for together with a device of {OWN}; ask for one kind or the other"
        );
        return Err(Error::State(why.into()));
    }
    Ok(None)
}

/// Applies them. False where no spec has them and our own plan can be tried: in `auto` mode,
/// for devices of ours on a host whose spec has not been written.
pub(super) fn apply(
    config: &mut Document<'_>,
    names: &[QualifiedName],
    mode: Mode,
    policy: &Policy,
) -> Result<bool, Error> {
    let registry = Registry::load_dirs(&policy.spec_dirs);
    match registry.inject(config, names, &stat) {
        Ok(()) => Ok(true),
        Err(cdi::Error::Unknown { .. })
            if mode == Mode::Auto && names.iter().all(|n| n.kind.starts_with("nvidia.com/")) =>
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
    use super::*;

    fn of(list: &[&str], mode: Mode) -> Result<Option<String>, Error> {
        let visible = match list {
            ["all"] => Visible::All,
            _ => Visible::These(list.iter().map(|n| (*n).to_owned()).collect()),
        };
        let found = names(&visible, mode, &Policy::default())?;
        Ok(found.map(|names| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            names.join(" ")
        }))
    }

    fn found(list: &[&str], mode: Mode) -> Option<String> {
        of(list, mode).unwrap()
    }

    #[test]
    fn cdi_mode_takes_every_name_and_auto_only_qualified_ones() {
        let both = Some("a.com/b=c nvidia.com/gpu=0".to_owned());
        assert_eq!(found(&["a.com/b=c", "0"], Mode::Cdi), both);
        assert_eq!(
            found(&["all"], Mode::Cdi).as_deref(),
            Some("nvidia.com/gpu=all")
        );
        assert_eq!(found(&["a.com/b=c", "0"], Mode::Auto), None);
        assert_eq!(found(&["all"], Mode::Auto), None);
        let one = Some("a.com/b=c".to_owned());
        assert_eq!(found(&["a.com/b=c"], Mode::Auto), one);
        assert_eq!(found(&["a.com/b=c"], Mode::JitCdi), None);
        let none = names(&Visible::NoGpu, Mode::Cdi, &Policy::default());
        assert_eq!(none.unwrap(), None);
        assert!(of(&["../x"], Mode::Cdi).is_err());
    }

    #[test]
    fn the_runtimes_own_kind_is_our_plan_in_every_mode() {
        for mode in [Mode::Cdi, Mode::Auto] {
            assert_eq!(found(&["runtime.nvidia.com/gpu=0"], mode), None);
            let mixed = of(&["runtime.nvidia.com/gpu=0", "nvidia.com/gpu=0"], mode);
            assert!(mixed.is_err());
        }
    }
}
