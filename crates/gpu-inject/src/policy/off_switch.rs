//! The switch that turns the runtime shim off: an empty file. It is no key of config.toml, so that it works whatever that
//! file looks like.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The file that turns the shim off where it exists. It is directly in /etc, where only root can make files.
pub const OFF_SWITCH: &str = "/etc/gpu-container-runtime.off";

/// The state of the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffSwitch {
    /// There is no such file: the shim works.
    Unset,
    /// The shim is off.
    Set,
    /// There is such a file, but another user could have made or filled it, so it does not count.
    NotRoots,
}

impl OffSwitch {
    /// Reads the switch of the tree at `root`, which is one system call where the file does not exist.
    pub fn of(root: &Path) -> Self {
        let Ok(file) = fs::symlink_metadata(root.join(OFF_SWITCH.trim_start_matches('/'))) else {
            return Self::Unset;
        };
        // In a user namespace without the host's root, the files of both have the same other owner.
        let is_roots =
            || file.uid() == 0 || fs::metadata(root).is_ok_and(|m| m.uid() == file.uid());
        if file.is_file() && file.mode() & 0o022 == 0 && is_roots() {
            Self::Set
        } else {
            Self::NotRoots
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    #[test]
    fn only_a_file_that_nobody_but_root_can_write_turns_it_off() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        let path = dir.path().join("etc/gpu-container-runtime.off");
        assert_eq!(OffSwitch::of(dir.path()), OffSwitch::Unset);
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(OffSwitch::of(dir.path()), OffSwitch::Set);
        for mode in [0o664, 0o646, 0o666] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(OffSwitch::of(dir.path()), OffSwitch::NotRoots, "{mode:o}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        if chown(&path, Some(1234), None).is_ok() {
            assert_eq!(OffSwitch::of(dir.path()), OffSwitch::NotRoots);
        }
        fs::remove_file(&path).unwrap();
        symlink("/etc/hostname", &path).unwrap();
        assert_eq!(OffSwitch::of(dir.path()), OffSwitch::NotRoots);
    }
}
