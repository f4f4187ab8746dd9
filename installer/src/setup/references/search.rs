//! Shell patterns of the files that are searched for references: files of engines, units, quadlets, hooks and CDI
//! specs.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use gpu_inject::generate::SPEC_PATH;

use crate::engines;
use crate::host::local_files::{LocalFiles, NotSeen};

/// What the texts of a place can need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SearchKind {
    /// Our programs.
    Configuration,
    /// Our programs, or devices by their CDI names.
    Requests,
}

/// Units that start containers, or engines with flags.
const UNITS: &[&str] = &[
    "/etc/systemd/system/*.service",
    "/etc/systemd/system/*.service.d/*.conf",
    "/usr/local/lib/systemd/system/*.service",
    "/etc/systemd/user/*.service",
    "/etc/systemd/user/*.service.d/*.conf",
];
/// Specs that a user has made with `gpusetup cdi generate`; they name our hook.
const SPECS: &[&str] = &["/etc/cdi/*"];
/// The same for a user's specs, below `XDG_CONFIG_HOME`.
const USER_UNITS: &[&str] = &["systemd/user/*.service", "systemd/user/*.service.d/*.conf"];
/// Our own units, which are removed with our packages, as are drop-ins for them.
const OWN_UNITS: &[&str] = &["gpusetup-cdi.service", "gpusetup-cdi.path"];

/// A place and the pattern of its files.
pub type SearchPattern = (SearchKind, PathBuf);

/// The system's files.
pub fn of_system() -> Vec<SearchPattern> {
    let requests = engines::config_patterns();
    let requests = requests
        .into_iter()
        .chain(UNITS.iter().map(|u| (*u).to_owned()));
    let specs = SPECS.iter().map(|s| (SearchKind::Configuration, s.into()));
    let requests = requests.map(|path| (SearchKind::Requests, path.into()));
    requests.chain(specs).collect()
}

/// A user's files, below these directories.
pub fn of_user(config: &[PathBuf]) -> Vec<SearchPattern> {
    let below = user_patterns();
    let of_dir = |dir: &PathBuf| {
        let paths = below
            .iter()
            .map(|pattern| (SearchKind::Requests, dir.join(pattern)));
        paths.collect::<Vec<_>>()
    };
    config.iter().flat_map(of_dir).collect()
}

/// The patterns of a user's files, below `XDG_CONFIG_HOME`.
pub fn user_patterns() -> Vec<&'static str> {
    [engines::user_config_patterns(), USER_UNITS.to_vec()].concat()
}

/// Whether a file is one of our own units or a drop-in for one, or the CDI spec that our service makes: they are removed
/// with the package. Containers that use the spec's devices are searched for separately.
pub fn is_ours(path: &Path) -> bool {
    let is_own_unit = |part: &OsStr| {
        let part = part.to_string_lossy();
        OWN_UNITS.contains(&part.strip_suffix(".d").unwrap_or(&part))
    };
    path == Path::new(SPEC_PATH)
        || path == Path::new("/run/cdi/nvidia.yaml")
        || path.iter().any(is_own_unit)
}

/// Each file that needs our packages, once, with the word that shows it; and the places that were not examined.
pub fn matches(
    files: &LocalFiles,
    patterns: &[SearchPattern],
    text: impl Fn(&Path) -> Result<Option<String>, NotSeen>,
    missing: impl Fn(&Path, SearchKind, &str) -> Option<&'static str>,
) -> (Vec<(PathBuf, &'static str)>, Vec<NotSeen>) {
    let mut word_by_path = BTreeMap::new();
    let mut not_seen = Vec::new();
    for (place, pattern) in patterns {
        let (paths, unseen) = files.matching(pattern);
        not_seen.extend(unseen);
        for path in paths {
            if word_by_path.contains_key(&path) {
                continue;
            }
            match text(&path) {
                Ok(Some(text)) => {
                    if let Some(word) = missing(&path, *place, &text) {
                        word_by_path.insert(path, word);
                    }
                }
                Ok(None) => {}
                Err(unseen) => not_seen.push(unseen),
            }
        }
    }
    (word_by_path.into_iter().collect(), not_seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An undo leaves it to the service that makes it, so it would keep the packages for ever.
    #[test]
    fn our_own_spec_is_no_reference() {
        assert!(is_ours(Path::new("/var/run/cdi/nvidia.yaml")));
        assert!(is_ours(Path::new("/run/cdi/nvidia.yaml")));
        assert!(!is_ours(Path::new("/etc/cdi/nvidia.yaml")));
    }

    #[test]
    fn a_unit_of_the_administrator_is_not_ours_by_its_name() {
        let dir = Path::new("/etc/systemd/system");
        assert!(is_ours(&dir.join("gpusetup-cdi.service.d/site.conf")));
        assert!(!is_ours(&dir.join("gpusetup-train.service")));
    }
}
