//! Plans our runtime's table, which has the settings of CRI-O's default runtime with our program, and configures the
//! path of CRI-O's low-level runtime in the shim.

use std::path::{Path, PathBuf};

use gpu_host::programs;
use toml_edit::Value;

use super::config::MergedConfig;
use super::installation::Installation;
use crate::edit::{meaning, toml};
use crate::error::Error;
use crate::error::config_fault::{ConfigFault, ConfigReader};
use crate::host::Host;
use crate::host::policy_file::HostPolicy;
use crate::model::change::{Change, MergeKind};
use crate::model::setup_options::{Existing, SetupOptions};

/// The first version whose default runtime is crun (CRI-O 1.31, pkg/config).
const CRUN: (u32, u32) = (1, 31);

/// The runtime whose settings ours copies.
pub(super) struct Base {
    /// Its name.
    name: String,
    /// Its settings; `None` if it is CRI-O's built-in runtime.
    settings: Option<Vec<(String, Value)>>,
    /// The path of its program, if it exists.
    pub(super) program: Option<PathBuf>,
}

impl Installation {
    fn built_in(&self) -> &'static str {
        if self.is_before(CRUN) { "runc" } else { "crun" }
    }

    /// CRI-O's default runtime. If the default is ours, or starts virtual machines and so is no OCI runtime, the
    /// built-in runtime is used.
    pub(super) fn base(&self, host: &Host, merged: &MergedConfig, wanted: &SetupOptions) -> Base {
        let name = merged
            .text(&["crio", "runtime", "default_runtime"])
            .filter(|name| *name != wanted.runtime_name)
            .filter(|name| {
                let table = merged.runtime(name).map(|(_, table)| table);
                let kind = table.and_then(|t| t.get("runtime_type")?.as_str());
                kind != Some("vm")
            })
            .unwrap_or(self.built_in());
        let table = merged.runtime(name).map(|(_, table)| table);
        let path = table.and_then(|t| t.get("runtime_path")?.as_str());
        let settings = table.map(|table| {
            let values = table
                .iter()
                .filter_map(|(k, item)| Some((k.to_owned(), item.clone().into_value().ok()?)));
            values.collect()
        });
        Base {
            name: name.to_owned(),
            settings,
            program: host.program(path.filter(|p| !p.is_empty()).unwrap_or(name)),
        }
    }

    /// Whether we may write the runtime; an error if the user has to decide.
    fn is_free(
        &self,
        host: &Host,
        merged: &MergedConfig,
        wanted: &SetupOptions,
    ) -> Result<bool, Error> {
        let name = &wanted.runtime_name;
        let Some((path, table)) = merged.runtime(name) else {
            return Ok(true);
        };
        let theirs = table.get("runtime_path").and_then(|p| p.as_str());
        if host.root().exists(self.drop_in()) {
            // An earlier run replaced it.
            return Ok(true);
        }
        if theirs.map(Path::new) == Some(&wanted.runtime_path) {
            // Written by hand, with our program.
            return Ok(wanted.default_runtime);
        }
        match wanted.existing {
            Existing::Leave => Ok(false),
            Existing::Adopt => Ok(true),
            Existing::Refuse => {
                let program = theirs.unwrap_or("no runtime_path");
                let fault = ConfigFault::OtherRuntime {
                    name: name.clone(),
                    whose: format!("that is not ours ({program})"),
                    is_operators: false,
                    cdi_suffices: false,
                };
                Err(Error::config(path, fault))
            }
        }
    }

    /// The change that adds the runtime's table, in our drop-in or in crio.conf.
    pub(super) fn runtime(
        &self,
        host: &Host,
        merged: &MergedConfig,
        wanted: &SetupOptions,
    ) -> Result<Option<Change>, Error> {
        if !self.is_free(host, merged, wanted)? {
            return Ok(None);
        }
        let base = self.base(host, merged, wanted);
        let why = format!(
            "add runtime {:?}, with the settings of {}",
            wanted.runtime_name, base.name
        );
        let values = values(base, wanted);
        let path = self.file();
        let in_place = path == self.config;
        let before = if in_place {
            merged.text_of(&path).map(str::to_owned)
        } else {
            host.text(&path)?
        };
        let table: &[&str] = &["crio", "runtime", "runtimes", &wanted.runtime_name];
        let default: &[&str] = &["crio", "runtime", "default_runtime"];
        let keys = if wanted.default_runtime {
            vec![table, default]
        } else {
            vec![table]
        };
        if let Some(later) = merged.hides(&path, &keys).filter(|_| !in_place) {
            return Err(Error::config(later, ConfigFault::ReadLater { ours: path }));
        }
        let text = before.as_deref().filter(|_| in_place);
        let mut after = edited(&path, text, &values)?;
        // Another program has rewritten the file in its own style.
        if let Some(before) = before.as_ref().filter(|b| meaning::same_text(b, &after)) {
            after.clone_from(before);
        }
        Ok(Some(Change {
            path,
            before,
            after: Some(after),
            mode: 0o644,
            why,
            kind: if in_place {
                MergeKind::Toml {
                    keys: values.into_iter().map(|(k, _)| k).collect(),
                }
            } else {
                MergeKind::Own
            },
        }))
    }
}

/// The values for the drop-in or for crio.conf.
fn values(base: Base, wanted: &SetupOptions) -> Vec<(Vec<String>, Value)> {
    let at = |key: &str| {
        ["crio", "runtime", "runtimes", &wanted.runtime_name, key]
            .map(str::to_owned)
            .to_vec()
    };
    let path = wanted.runtime_path.display().to_string();
    // A runtime without a table is CRI-O's built-in. An empty table would differ from it only in
    // that it has no PATH for the monitor (CRI-O pkg/config, `defaultRuntimeHandler`).
    let settings = base.settings.unwrap_or_else(|| {
        let path = format!("PATH={}", programs::DIRS.join(":"));
        vec![("monitor_env".into(), [path].into_iter().collect())]
    });
    let mut values = vec![(at("runtime_path"), path.into())];
    if settings.iter().all(|(key, _)| key != "runtime_type") {
        values.push((at("runtime_type"), "oci".into()));
    }
    for (key, value) in settings {
        // Each of these keys would override our path.
        let is_path = [
            "runtime_path",
            "platform_runtime_paths",
            "inherit_default_runtime",
        ];
        if !is_path.contains(&key.as_str()) {
            values.push((at(&key), value.decorated(" ", "")));
        }
    }
    if wanted.default_runtime {
        let key = ["crio", "runtime", "default_runtime"].map(str::to_owned);
        values.insert(0, (key.to_vec(), wanted.runtime_name.as_str().into()));
    }
    values
}

/// Adds CRI-O's low-level runtime to the shim's configuration. CRI-O's packages keep crun and runc
/// in a directory where the shim would not find them. CRI-O starts and deletes containers without
/// the environment that it gives its monitor, so only the shim's own file can name that directory.
pub(super) fn low_level(
    host: &Host,
    base: &Base,
    file: &HostPolicy,
) -> Result<Option<Change>, Error> {
    let HostPolicy {
        text: before,
        policy,
    } = file;
    let Some(program) = &base.program else {
        return Ok(None);
    };
    if policy.runtimes.iter().any(|r| host.has_program(r)) {
        return Ok(None);
    }
    let path = PathBuf::from(gpu_inject::policy::PATH);
    let own = program.display().to_string();
    let list: Value = policy.runtimes.iter().chain([&own]).collect();
    let keys = ["nvidia-container-runtime", "runtimes"].map(str::to_owned);
    let values = vec![(keys.to_vec(), list)];
    let after = edited(&path, before.as_deref(), &values)?;
    Ok(Some(Change {
        path,
        before: before.clone(),
        after: Some(after),
        mode: 0o644,
        why: format!("so that the runtime finds CRI-O's {}", base.name),
        kind: MergeKind::Toml {
            keys: values.into_iter().map(|(k, _)| k).collect(),
        },
    }))
}

/// Sets these values in a text, or in a new text of ours if there is none.
fn edited(
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
