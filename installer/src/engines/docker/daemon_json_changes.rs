//! Plans the change to daemon.json: the keys to set, and what prevents that.

use serde_json::{Value, json};

use super::daemon_json::{DaemonJson, strict};
use super::runtime_entry::{self, EntryDecision};
use crate::edit::json;
use crate::error::Error;
use crate::error::config_fault::ConfigFault;
use crate::host::Host;
use crate::host::systemd_unit::Unit;
use crate::model::change::{Change, MergeKind};
use crate::model::setup_options::{Mode, SetupOptions};

/// Versions in which `features.cdi` must be set: it exists from 25.0 on and is on by default from
/// 28.2 on (docs.docker.com, "Engine release notes").
pub const CDI_BY_FEATURE: std::ops::Range<(u32, u32)> = (25, 0)..(28, 2);
/// Flags, each with the key that dockerd refuses beside it. Runtimes are not listed, since dockerd
/// merges them (moby daemon/config, findConfigurationConflicts and skipDuplicates; seen on 20.10).
const CLASHES: [(&str, &str); 2] = [
    ("--default-runtime", "default-runtime"),
    ("--feature", "features"),
];

/// A key path with its value.
pub type DaemonSetting = (Vec<String>, Value);

impl DaemonJson {
    /// The change that applies the options; `None` if nothing is missing.
    pub fn change(
        &self,
        host: &Host,
        wanted: &SetupOptions,
        version: (u32, u32),
        unit: &Unit,
    ) -> Result<Option<Change>, Error> {
        let (settings, summary) = self.settings(host, wanted, version)?;
        if settings.is_empty() {
            return Ok(None);
        }
        self.ensure_no_flag_clash(unit, &settings)?;
        let text = self.text.as_deref().unwrap_or_default();
        let after = json::set(text, &settings).map_err(|e| strict(&self.path, e))?;
        Ok(Some(Change {
            path: self.path.clone(),
            before: self.text.clone(),
            after: Some(after),
            mode: 0o644,
            why: summary.join("; "),
            kind: MergeKind::Json {
                keys: settings.into_iter().map(|(keys, _)| keys).collect(),
            },
        }))
    }

    /// The settings that are missing, each with a phrase for the plan. A setting that already has the wanted value is
    /// not touched, whatever its layout.
    fn settings(
        &self,
        host: &Host,
        wanted: &SetupOptions,
        version: (u32, u32),
    ) -> Result<(Vec<DaemonSetting>, Vec<String>), Error> {
        let name = &wanted.runtime_name;
        let key = |keys: &[&str]| keys.iter().map(|k| (*k).to_owned()).collect::<Vec<_>>();
        let (mut settings, mut phrases) = (Vec::new(), Vec::new());
        if wanted.mode != Mode::Cdi {
            let verdict = runtime_entry::judge(host, self, wanted)?;
            let path = json!(wanted.runtime_path.display().to_string());
            match &verdict {
                EntryDecision::None => {
                    settings.push((key(&["runtimes", name]), json!({ "path": path })));
                    phrases.push(format!("add runtime {name:?}"));
                }
                EntryDecision::Replace(owner) => {
                    settings.push((key(&["runtimes", name, "path"]), path));
                    phrases.push(format!(
                        "make runtime {name:?} ours; it is {}",
                        owner.author()
                    ));
                }
                EntryDecision::Ours | EntryDecision::Leave(_) => {}
            }
            let is_left = matches!(verdict, EntryDecision::Leave(_));
            let default = self.get(&["default-runtime"]).and_then(Value::as_str);
            if wanted.default_runtime && !is_left && default != Some(name) {
                settings.push((key(&["default-runtime"]), json!(name)));
                phrases.push(format!("set default-runtime to {name:?}"));
            }
        }
        let features = &["features", "cdi"];
        if wanted.mode != Mode::Runtime
            && CDI_BY_FEATURE.contains(&version)
            && self.get(features) != Some(&json!(true))
        {
            settings.push((key(features), json!(true)));
            phrases.push("turn on CDI".into());
        }
        Ok((settings, phrases))
    }

    /// Fails if a key is also set by a flag, because dockerd would not start.
    fn ensure_no_flag_clash(&self, unit: &Unit, settings: &[DaemonSetting]) -> Result<(), Error> {
        for (flag, key) in CLASHES {
            let is_set = settings.iter().any(|(keys, _)| keys[0] == key);
            let Some(place) = unit.where_is(flag).filter(|_| is_set) else {
                continue;
            };
            let file = self.path.clone();
            return Err(Error::config(
                place,
                ConfigFault::FlagClash { flag, key, file },
            ));
        }
        Ok(())
    }
}
