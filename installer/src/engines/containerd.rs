//! containerd: a runtime entry for Kubernetes' CRI, and CDI where CRI has it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use toml_edit::{DocumentMut, Item, Value};

use super::unit::Unit;
use super::{Activation, Engine, Facts, Mode, Wanted};
use crate::change::{Change, FileKind};
use crate::edit::toml;
use crate::error::Error;
use crate::host::Host;

const CONFIG: &str = "/etc/containerd/config.toml";
const DROP_IN_DIR: &str = "/etc/containerd/conf.d";
const DROP_IN: &str = "/etc/containerd/conf.d/50-gpusetup.toml";

/// containerd on this host.
pub struct Containerd {
    facts: Facts,
    version: (u32, u32),
    config: PathBuf,
}

/// Where CRI's settings are in a schema (containerd docs/PLUGINS.md and docs/cri/config.md).
struct Schema {
    number: i64,
    cri: &'static [&'static str],
}

const SCHEMAS: [Schema; 3] = [
    Schema {
        number: 1,
        cri: &["plugins", "cri"],
    },
    Schema {
        number: 2,
        cri: &["plugins", "io.containerd.grpc.v1.cri"],
    },
    Schema {
        number: 3,
        cri: &["plugins", "io.containerd.cri.v1.runtime"],
    },
];

impl Containerd {
    /// Looks for containerd.
    pub fn detect(host: &Host) -> Option<Self> {
        if !host.has_program("containerd") {
            return None;
        }
        let version = installed_version(host);
        let unit = Unit::read(host, "containerd.service");
        let config = unit
            .flag("--config")
            .map_or_else(|| CONFIG.into(), PathBuf::from);
        Some(Self {
            facts: Facts {
                name: "containerd".into(),
                running: host.is_live().then(|| answers(host).is_ok()),
                config: Some(config.clone()),
                configured: false,
                notes: Vec::new(),
                version: version.clone(),
            },
            version: super::major_minor(version.as_deref().unwrap_or_default()),
            config,
        })
    }

    fn refused(&self, why: impl Into<String>, fix: impl Into<String>) -> Error {
        Error::Config {
            path: self.config.clone(),
            why: why.into(),
            fix: fix.into(),
        }
    }

    /// The schema of the root file; a drop-in's must not be higher, whatever containerd
    /// prints of itself (containerd #5837, aicr #1688).
    fn schema(&self, document: &DocumentMut, exists: bool) -> Result<&'static Schema, Error> {
        let number = match document.get("version") {
            Some(item) => item.as_integer().ok_or_else(|| {
                self.refused(
                    "version is not a number",
                    "make it `version = 2` (containerd 1.x) or 3 (2.x), then run this again",
                )
            })?,
            // A file without a version is of the first schema (containerd 1.x); no file at all
            // means the program's own defaults.
            None if exists && self.version < (2, 0) => 1,
            None if self.version >= (2, 0) => 3,
            None => 2,
        };
        SCHEMAS.iter().find(|s| s.number == number).ok_or_else(|| {
            self.refused(
                format!("has schema version {number}, which is none of 1, 2, 3"),
                "this release cannot edit it; add the runtime by hand, or leave this engine out with --engine",
            )
        })
    }

    fn values(
        &self,
        document: &DocumentMut,
        schema: &Schema,
        wanted: &Wanted,
    ) -> Result<Vec<(Vec<String>, Value)>, Error> {
        let at = |rest: &[&str]| -> Vec<String> {
            schema
                .cri
                .iter()
                .chain(rest)
                .map(|k| (*k).to_owned())
                .collect()
        };
        let path = wanted.runtime_path.display().to_string();
        let name = wanted.runtime_name.as_str();
        let found = |rest: &[&str]| toml::get(document, &[schema.cri, rest].concat());
        let mut values: Vec<(Vec<String>, Value)> = Vec::new();
        if wanted.mode != Mode::Cdi {
            let binary = found(&["containerd", "runtimes", name, "options", "BinaryName"])
                .and_then(Item::as_str);
            if found(&["containerd", "runtimes", name]).is_some() && binary != Some(&path) {
                return Err(self.refused(
                    format!(
                        "has a runtime {name:?} that is not ours ({})",
                        binary.unwrap_or("no BinaryName")
                    ),
                    "remove that table, or leave it and use `gpusetup install --mode cdi`",
                ));
            }
            // The file's table of runtimes takes the place of the built-in one, runc and all, and
            // without its default runtime CRI does not load (seen on containerd 1.6 and 1.7).
            if found(&["containerd", "runtimes"]).is_none() {
                let runc = at(&["containerd", "runtimes", "runc", "runtime_type"]);
                values.push((runc, "io.containerd.runc.v2".into()));
            }
            // Without runtime_type containerd does not start (toolkit #1956).
            values.push((
                at(&["containerd", "runtimes", name, "runtime_type"]),
                "io.containerd.runc.v2".into(),
            ));
            // What runc's table says, SystemdCgroup above all, ours must say too.
            let options =
                found(&["containerd", "runtimes", "runc", "options"]).and_then(Item::as_table_like);
            for (key, item) in options.into_iter().flat_map(toml_edit::TableLike::iter) {
                if let Some(value) = item.as_value().filter(|_| key != "BinaryName") {
                    let value = value.clone().decorated(" ", "");
                    values.push((at(&["containerd", "runtimes", name, "options", key]), value));
                }
            }
            values.push((
                at(&["containerd", "runtimes", name, "options", "BinaryName"]),
                path.into(),
            ));
            if wanted.default_runtime {
                values.push((at(&["containerd", "default_runtime_name"]), name.into()));
            }
        }
        // CRI has CDI from 1.7, on by itself from 2.0 (containerd docs/cri/config.md).
        if wanted.mode != Mode::Runtime && schema.number == 2 && self.version >= (1, 7) {
            values.push((at(&["enable_cdi"]), true.into()));
        }
        values.retain(|(keys, value)| {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let has = toml::get(document, &keys).and_then(Item::as_value);
            has.map(|v| v.to_string().trim().to_owned())
                != Some(value.to_string().trim().to_owned())
        });
        Ok(values)
    }

    /// In a drop-in where the root file takes it in and tables are merged (2.0 and later).
    fn uses_drop_in(&self, document: &DocumentMut) -> bool {
        let imports = document.get("imports").and_then(Item::as_array);
        self.version >= (2, 0)
            && imports.is_some_and(|list| {
                list.iter()
                    .filter_map(Value::as_str)
                    .any(|i| Path::new(i) == Path::new(DROP_IN_DIR).join("*.toml"))
            })
    }
}

fn installed_version(host: &Host) -> Option<String> {
    if host.is_live()
        && let Ok(out) = host.run(&["containerd", "--version"], Duration::from_secs(10))
    {
        // "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u1"
        return out
            .stdout
            .split_whitespace()
            .nth(2)
            .map(|v| v.trim_start_matches('v').to_owned());
    }
    host.package_version(&["containerd.io", "containerd"])
}

/// The daemon can answer while its CRI plugin has refused the configuration.
fn cri_loads(host: &Host) -> Result<(), String> {
    let listed = host.run(&["ctr", "plugins", "ls"], Duration::from_secs(10));
    let out = listed.map_err(|e| e.to_string())?;
    // TYPE ID PLATFORMS STATUS; 2.x has CRI in several plugins of one type.
    let is_cri = |words: &[&str]| {
        matches!(
            words,
            ["io.containerd.grpc.v1", "cri", ..] | ["io.containerd.cri.v1", ..]
        )
    };
    for line in out.stdout.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if is_cri(&words) && words.last() == Some(&"error") {
            return Err("its CRI plugin does not load this configuration".into());
        }
    }
    Ok(())
}

fn answers(host: &Host) -> Result<(), String> {
    match host.run(
        &["ctr", "--timeout", "5s", "version"],
        Duration::from_secs(10),
    ) {
        Ok(out) if out.ok() => Ok(()),
        Ok(out) => Err(out.last_line().to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

impl Engine for Containerd {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn facts_mut(&mut self) -> &mut Facts {
        &mut self.facts
    }

    fn changes(&self, host: &Host, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        let before = host.text(&self.config)?;
        let text = before.clone().unwrap_or_default();
        let broken = |e: crate::edit::EditError| {
            self.refused(
                e.to_string(),
                "mend the file, then run this again. Nothing was changed.",
            )
        };
        let document = toml::parse(&text).map_err(broken)?;
        let schema = self.schema(&document, before.is_some())?;
        let drop_in = self.uses_drop_in(&document);
        let mut wanted_values = self.values(&document, schema, wanted)?;
        if wanted_values.is_empty() {
            return Ok(Vec::new());
        }
        let said = format!("add runtime {:?}", wanted.runtime_name);
        let said = if wanted_values
            .iter()
            .any(|(k, _)| k.last().is_some_and(|k| k == "enable_cdi"))
        {
            format!("{said}; turn on CDI")
        } else {
            said
        };
        let version = (vec!["version".to_owned()], Value::from(schema.number));
        let change = if drop_in {
            wanted_values.insert(0, version);
            Change {
                path: DROP_IN.into(),
                before: host.text(Path::new(DROP_IN))?,
                after: Some(toml::set("# Written by gpusetup.\n", &wanted_values).map_err(broken)?),
                mode: 0o644,
                why: format!(
                    "{said}, same schema ({}) as {}",
                    schema.number,
                    self.config.display()
                ),
                kind: FileKind::Own,
            }
        } else {
            if before.is_none() {
                wanted_values.insert(0, version);
            }
            Change {
                path: self.config.clone(),
                before,
                after: Some(toml::set(&text, &wanted_values).map_err(broken)?),
                mode: 0o644,
                why: said,
                kind: FileKind::Toml {
                    keys: wanted_values.into_iter().map(|(k, _)| k).collect(),
                },
            }
        };
        Ok(Some(change).into_iter().filter(Change::is_needed).collect())
    }

    fn owns(&self, path: &Path) -> bool {
        path == self.config || path == Path::new(DROP_IN)
    }

    fn activation(&self, _host: &Host, changes: &[Change]) -> Activation {
        if changes.is_empty() {
            return Activation::default();
        }
        Activation {
            restart: Some("containerd.service".into()),
            daemon_reload: false,
            effect: "running containers keep running".into(),
        }
    }

    fn check(&self, host: &Host) -> Result<(), Error> {
        if !host.is_live() {
            return Ok(());
        }
        let file = self.config.display().to_string();
        let out = host.run(
            &["containerd", "--config", &file, "config", "dump"],
            Duration::from_secs(30),
        )?;
        if out.ok() {
            return Ok(());
        }
        Err(Error::failed(
            format!("containerd refuses its configuration: {}", out.last_line()),
            "",
        ))
    }

    fn health(&self, host: &Host) -> Result<(), Error> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            match answers(host).and_then(|()| cri_loads(host)) {
                Ok(()) => return Ok(()),
                Err(said) if Instant::now() >= end => {
                    return Err(Error::failed(
                        format!("containerd did not come back: {said}"),
                        "",
                    ));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }
}
