//! Shell patterns of the files that are searched for references: files of engines, units, quadlets, hooks and CDI
//! specs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::local_files::{LocalFiles, NotSeen};
use crate::engines;

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
/// Our own units, which are removed with our packages. A drop-in of the user may name our program.
const OWN_UNITS: &str = "gpusetup-";

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

/// Whether a file belongs to one of our own units.
pub fn is_ours(path: &Path) -> bool {
    path.iter()
        .any(|part| part.to_string_lossy().starts_with(OWN_UNITS))
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
        let paths = files.matching(pattern).unwrap_or_else(|unseen| {
            not_seen.push(unseen);
            Vec::new()
        });
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
