//! daemon.json: what it says, what it should say, what stands against that.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::existing::{self, Verdict};
use crate::edit::json;
use crate::error::Error;
use crate::host::Host;
use crate::host::systemd_unit::Unit;
use crate::model::change::{Change, FileKind};
use crate::model::setup_options::{Mode, Wanted};

/// Versions in which `features.cdi` must be set: there from 25.0, on by itself from 28.2
/// (docs.docker.com, "Engine release notes").
pub const CDI_BY_FEATURE: std::ops::Range<(u32, u32)> = (25, 0)..(28, 2);
/// Flags with the keys that dockerd refuses beside them. Runtimes it merges (moby daemon/config,
/// findConfigurationConflicts and skipDuplicates; seen on 20.10).
const CLASHES: [(&str, &str); 2] = [
    ("--default-runtime", "default-runtime"),
    ("--feature", "features"),
];

/// The file as it is.
pub struct DaemonJson {
    /// Where it is.
    pub path: PathBuf,
    text: Option<String>,
    value: Value,
}

/// A key path with its value.
pub type Setting = (Vec<String>, Value);

impl DaemonJson {
    /// Reads it; one that is missing or empty is `{}`.
    pub fn read(host: &Host, path: &Path) -> Result<Self, Error> {
        let text = host.text(path)?;
        let value = match text.as_deref().filter(|t| !t.trim().is_empty()) {
            Some(text) => json::parse(text).map_err(|e| strict(path, &e.to_string()))?,
            None => json!({}),
        };
        Ok(Self {
            path: path.to_owned(),
            text,
            value,
        })
    }

    /// The value at a key path.
    pub fn get(&self, keys: &[&str]) -> Option<&Value> {
        keys.iter().try_fold(&self.value, |at, key| at.get(key))
    }

    /// Whether this is all it says.
    pub fn is(&self, whole: &Value) -> bool {
        self.value == *whole
    }

    /// Where it makes the daemon listen.
    pub fn hosts(&self) -> Vec<&str> {
        let hosts = self.get(&["hosts"]).and_then(Value::as_array);
        let hosts = hosts.into_iter().flatten();
        hosts.filter_map(Value::as_str).collect()
    }

    /// Runtimes with the programs it names for them.
    pub fn runtimes(&self) -> impl Iterator<Item = (&str, &str)> {
        let runtimes = self.get(&["runtimes"]).and_then(Value::as_object);
        let runtimes = runtimes.into_iter().flatten();
        runtimes.filter_map(|(name, r)| Some((name.as_str(), r.get("path")?.as_str()?)))
    }

    /// The change that makes it as wanted; `None` where it is.
    pub fn change(
        &self,
        host: &Host,
        wanted: &Wanted,
        version: (u32, u32),
        unit: &Unit,
    ) -> Result<Option<Change>, Error> {
        let (settings, said) = self.settings(host, wanted, version)?;
        if settings.is_empty() {
            return Ok(None);
        }
        self.no_clash(unit, &settings)?;
        let text = self.text.as_deref().unwrap_or_default();
        let after = json::set(text, &settings).map_err(|e| strict(&self.path, &e.to_string()))?;
        Ok(Some(Change {
            path: self.path.clone(),
            before: self.text.clone(),
            after: Some(after),
            mode: 0o644,
            why: said.join("; "),
            kind: FileKind::Json {
                keys: settings.into_iter().map(|(keys, _)| keys).collect(),
            },
        }))
    }

    /// What is not as wanted yet, each with a word for the plan. What is as wanted is not
    /// touched, whatever its layout.
    fn settings(
        &self,
        host: &Host,
        wanted: &Wanted,
        version: (u32, u32),
    ) -> Result<(Vec<Setting>, Vec<String>), Error> {
        let name = &wanted.runtime_name;
        let key = |keys: &[&str]| keys.iter().map(|k| (*k).to_owned()).collect::<Vec<_>>();
        let (mut settings, mut said) = (Vec::new(), Vec::new());
        if wanted.mode != Mode::Cdi {
            let verdict = existing::judge(host, self, wanted)?;
            let path = json!(wanted.runtime_path.display().to_string());
            match &verdict {
                Verdict::None => {
                    settings.push((key(&["runtimes", name]), json!({ "path": path })));
                    said.push(format!("add runtime {name:?}"));
                }
                Verdict::Replace(owner) => {
                    settings.push((key(&["runtimes", name, "path"]), path));
                    said.push(format!(
                        "make runtime {name:?} ours; it is {}",
                        owner.whose()
                    ));
                }
                Verdict::Ours | Verdict::Leave(_) => {}
            }
            let is_left = matches!(verdict, Verdict::Leave(_));
            let default = self.get(&["default-runtime"]).and_then(Value::as_str);
            if wanted.default_runtime && !is_left && default != Some(name) {
                settings.push((key(&["default-runtime"]), json!(name)));
                said.push(format!("set default-runtime to {name:?}"));
            }
        }
        let features = &["features", "cdi"];
        if wanted.mode != Mode::Runtime
            && CDI_BY_FEATURE.contains(&version)
            && self.get(features) != Some(&json!(true))
        {
            settings.push((key(features), json!(true)));
            said.push("turn on CDI".into());
        }
        Ok((settings, said))
    }

    /// dockerd stops at a key that is given both ways.
    fn no_clash(&self, unit: &Unit, settings: &[Setting]) -> Result<(), Error> {
        for (flag, key) in CLASHES {
            let is_set = settings.iter().any(|(keys, _)| keys[0] == key);
            let Some(place) = unit.where_is(flag).filter(|_| is_set) else {
                continue;
            };
            let file = self.path.display();
            return Err(Error::Config {
                path: place.to_owned(),
                why: format!(
                    "starts dockerd with {flag}, and dockerd refuses {key:?} in {file} beside it"
                ),
                fix: format!("move {flag} into {file}, then run this again"),
            });
        }
        Ok(())
    }
}

fn strict(path: &Path, why: &str) -> Error {
    Error::Config {
        path: path.to_owned(),
        why: why.to_owned(),
        fix: "dockerd reads strict JSON; mend the file, then run this again. Nothing was changed."
            .into(),
    }
}
