//! What CRI-O's flags and variables say, as settings: they count before all of its files (CRI-O internal/criocli,
//! `mergeConfig`, the same in 1.18 to 1.37).

use std::path::PathBuf;

use toml_edit::{Array, DocumentMut, Value};

use crate::edit::toml;
use crate::host::start_flags::{StartFlags, StartValue};

/// The key of the default runtime.
pub const DEFAULT: &[&str] = &["crio", "runtime", "default_runtime"];

/// What one flag or variable says.
#[derive(Clone, Debug)]
pub struct GivenSetting {
    /// The flag or variable.
    pub by: String,
    /// The file that has it.
    pub from: PathBuf,
    /// The settings, as they would be in a file.
    pub document: DocumentMut,
}

/// Flags with one value, the variables that stand for them, and the keys that they set.
const VALUES: [(&[&str], &str, &[&str]); 4] = [
    (&["listen"], "CONTAINER_LISTEN", &["crio", "api", "listen"]),
    (&["runroot"], "CONTAINER_RUNROOT", &["crio", "runroot"]),
    (&["default-runtime"], "CONTAINER_DEFAULT_RUNTIME", DEFAULT),
    (
        &["cgroup-manager"],
        "CONTAINER_CGROUP_MANAGER",
        &["crio", "runtime", "cgroup_manager"],
    ),
];
/// The same for flags with lists.
const LISTS: [(&[&str], &str, &[&str]); 2] = [
    (
        &["hooks-dir"],
        "CONTAINER_HOOKS_DIR",
        &["crio", "runtime", "hooks_dir"],
    ),
    (
        &["cdi-spec-dirs"],
        "CONTAINER_CDI_SPEC_DIRS",
        &["crio", "runtime", "cdi_spec_dirs"],
    ),
];
/// The parts of `--runtimes` after the name.
const PARTS: [&str; 6] = [
    "runtime_path",
    "runtime_root",
    "runtime_type",
    "privileged_without_host_devices",
    "runtime_config_path",
    "container_min_memory",
];

/// All settings that are given so.
pub fn settings(flags: &StartFlags) -> Vec<GivenSetting> {
    let mut given = Vec::new();
    for (names, variable, keys) in VALUES {
        if let Some(value) = flags.get(names, variable) {
            let text = Value::from(value.value.as_str());
            given.extend(setting(&value, &[(owned(keys), text)]));
        }
    }
    for (names, variable, keys) in LISTS {
        if let Some(value) = flags.get(names, variable) {
            let list: Array = value.list().into_iter().collect();
            given.extend(setting(&value, &[(owned(keys), list.into())]));
        }
    }
    if let Some(value) = flags.get(&["runtimes"], "CONTAINER_RUNTIMES") {
        let values: Vec<_> = value.list().into_iter().flat_map(runtime).collect();
        given.extend(setting(&value, &values));
    }
    given
}

fn setting(value: &StartValue, values: &[(Vec<String>, Value)]) -> Option<GivenSetting> {
    let text = toml::set("", values).ok()?;
    Some(GivenSetting {
        by: value.by.clone(),
        from: value.from.clone(),
        document: toml::parse(&text).ok()?,
    })
}

/// The table that `NAME:PATH:ROOT:TYPE:…` makes, which has no other keys.
fn runtime(word: &str) -> Vec<(Vec<String>, Value)> {
    let mut parts = word.split(':');
    let name = parts.next().unwrap_or_default();
    let mut values = Vec::new();
    for (key, part) in PARTS.into_iter().zip(parts) {
        let keys = owned(&["crio", "runtime", "runtimes", name, key]);
        match (key, part) {
            (_, "") => {}
            ("privileged_without_host_devices", part) => {
                values.push((keys, (part == "true").into()));
            }
            (_, part) => values.push((keys, part.into())),
        }
    }
    values
}

fn owned(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_by_flag_is_a_table() {
        let made = |word: &str| toml::set("", &runtime(word)).unwrap();
        let table = made("nv:/usr/bin/nv:/run/nv:oci:true");
        for line in [
            "[crio.runtime.runtimes.nv]",
            "runtime_path = \"/usr/bin/nv\"",
            "runtime_root = \"/run/nv\"",
            "privileged_without_host_devices = true",
        ] {
            assert!(table.contains(line), "{table}");
        }
        assert!(!made("nv:/p:").contains("runtime_root"));
    }
}
