//! The table of our runtime: what it is made of, and its text.

use std::path::{Path, PathBuf};

use toml_edit::Value;

use crate::edit::toml;
use crate::error::Error;
use crate::error::config_fault::{ConfigFault, ConfigReader};
use crate::model::setup_options::SetupOptions;

/// The runtime that ours does the same as.
pub(super) struct Base {
    /// Its name.
    pub(super) name: String,
    /// The settings of its table, without its program.
    pub(super) settings: Vec<(String, Value)>,
    /// The low-level program that makes its containers.
    pub(super) program: PathBuf,
    /// Whether the shim's list of low-level runtimes decides that already.
    pub(super) is_by_list: bool,
}

impl Base {
    /// The PATH that its monitor has.
    pub(super) fn monitors_path(&self) -> Vec<PathBuf> {
        let mut settings = self.settings.iter();
        let env = settings.find(|(key, _)| key == "monitor_env");
        env.map(|(_, env)| monitors_path(env)).unwrap_or_default()
    }
}

/// The PATH in a `monitor_env`: the monitor of a runtime's containers has it, and so the runtime that it starts.
pub(super) fn monitors_path(env: &Value) -> Vec<PathBuf> {
    let texts = env
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let paths = texts.filter_map(|text| text.strip_prefix("PATH="));
    paths.flat_map(std::env::split_paths).collect()
}

/// The values for the drop-in or for crio.conf.
pub(super) fn values(base: &Base, wanted: &SetupOptions) -> Vec<(Vec<String>, Value)> {
    let at = |key: &str| {
        ["crio", "runtime", "runtimes", &wanted.runtime_name, key]
            .map(str::to_owned)
            .to_vec()
    };
    let path = wanted.runtime_path.display().to_string();
    let mut values = vec![(at("runtime_path"), path.into())];
    if base.settings.iter().all(|(key, _)| key != "runtime_type") {
        values.push((at("runtime_type"), "oci".into()));
    }
    for (key, value) in &base.settings {
        values.push((at(key), value.clone().decorated(" ", "")));
    }
    if wanted.default_runtime {
        let key = ["crio", "runtime", "default_runtime"].map(str::to_owned);
        values.insert(0, (key.to_vec(), wanted.runtime_name.as_str().into()));
    }
    values
}

/// Sets these values in a text, or in a new text of ours if there is none.
pub(super) fn edited(
    path: &Path,
    text: Option<&str>,
    values: &[(Vec<String>, Value)],
) -> Result<String, Error> {
    let head = if text.is_none() {
        "# Written by gpusetup.\n"
    } else {
        ""
    };
    let made = toml::set(text.unwrap_or_default(), values)
        .map_err(ConfigFault::text(ConfigReader::Plain))
        .map_err(|fault| Error::config(path, fault))?;
    Ok(format!("{head}{made}"))
}
