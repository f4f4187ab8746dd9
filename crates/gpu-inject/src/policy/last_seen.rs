//! The policy as it was last seen on this host, so that one that disappears is noticed.
//!
//! A file with nothing but defaults is not kept: without it the same holds.

use std::io::ErrorKind;
use std::path::Path;

use gpu_host::Root;

use super::{MAX_FILE, PATH, Policy};

/// The copy of the policy as it was last seen.
pub const LAST_SEEN: &str = "/var/lib/gpu-container/policy.toml";

/// What the policy's file and its copy say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LastSeen {
    /// Nothing is to be done: both are the same, there is nothing to keep, or the file cannot be used.
    Same,
    /// The copy is to have this text.
    Keep(String),
    /// The file has no policy of its own any more; the copy is to be removed.
    Forget,
    /// The file is gone, and the copy tells what stood in it.
    Gone,
}

impl LastSeen {
    /// Looks at both files. What cannot be read is no reason to change anything.
    pub fn of(root: &Root) -> Self {
        let copy = root.read_text_limited(LAST_SEEN, MAX_FILE).ok();
        let text = match root.read_text_limited(PATH, MAX_FILE) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound && copy.is_some() => return Self::Gone,
            Err(_) => return Self::Same,
        };
        match Policy::from_toml(&text, Path::new(PATH)) {
            Ok(policy) if policy.is_default() && copy.is_some() => Self::Forget,
            Ok(policy) if policy.is_default() => Self::Same,
            Ok(_) if copy.as_ref() != Some(&text) => Self::Keep(text),
            _ => Self::Same,
        }
    }
}

/// The command that puts the policy back as it was last seen.
pub fn command_to_put_back() -> String {
    format!("install -D -m 644 {LAST_SEEN} {PATH}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: &str = "accept-nvidia-visible-devices-envvar-when-unprivileged = false\n";

    fn of(file: Option<&str>, copy: Option<&str>) -> LastSeen {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [(PATH, file), (LAST_SEEN, copy)] {
            let path = dir.path().join(&path[1..]);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            if let Some(text) = text {
                std::fs::write(path, text).unwrap();
            }
        }
        LastSeen::of(&Root::open(dir.path()).unwrap())
    }

    #[test]
    fn a_policy_is_kept_and_its_end_noticed() {
        assert_eq!(of(Some(STRICT), None), LastSeen::Keep(STRICT.into()));
        assert_eq!(of(Some(STRICT), Some("x")), LastSeen::Keep(STRICT.into()));
        assert_eq!(of(Some(STRICT), Some(STRICT)), LastSeen::Same);
        assert_eq!(of(None, Some(STRICT)), LastSeen::Gone);
        assert_eq!(of(None, None), LastSeen::Same);
    }

    /// The file of nvidia-container-toolkit as it is packaged is of that kind.
    #[test]
    fn what_has_only_defaults_or_is_broken_is_not_kept() {
        let usual = "[nvidia-container-cli]\nload-kmods = true\nldconfig = \"@/sbin/ldconfig\"\n";
        assert_eq!(of(Some(usual), None), LastSeen::Same);
        assert_eq!(of(Some(usual), Some(STRICT)), LastSeen::Forget);
        assert_eq!(of(Some("[broken"), Some(STRICT)), LastSeen::Same);
        assert_eq!(of(Some("[broken"), None), LastSeen::Same);
    }
}
