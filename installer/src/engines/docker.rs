//! Docker as a system service: daemon.json, and the unit's drop-in for `--gpus`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::unit::Unit;
use super::{Activation, Engine, Facts, Mode, Wanted};
use crate::change::{Change, FileKind};
use crate::edit::json;
use crate::error::Error;
use crate::host::Host;

const CONFIG: &str = "/etc/docker/daemon.json";
const DROP_IN: &str = "/etc/systemd/system/docker.service.d/50-gpusetup.conf";
const HOOK: &str = "nvidia-container-runtime-hook";
/// What systemd gives a service that says nothing (systemd.exec(5), "Environment").
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Versions in which `features.cdi` must be set: there from 25.0, on by itself from 28.2
/// (docs.docker.com, "Engine release notes").
const CDI_BY_FEATURE: std::ops::Range<(u32, u32)> = (25, 0)..(28, 2);

/// Docker on this host.
pub struct Docker {
    facts: Facts,
    version: (u32, u32),
    config: PathBuf,
    unit: Unit,
}

impl Docker {
    /// Looks for dockerd.
    pub fn detect(host: &Host) -> Option<Self> {
        if !host.has_program("dockerd") {
            return None;
        }
        let version = installed_version(host);
        let unit = Unit::read(host, "docker.service");
        let config = unit
            .flag("--config-file")
            .map_or_else(|| CONFIG.into(), PathBuf::from);
        let mut notes = Vec::new();
        if host.root().exists("/var/snap/docker") {
            notes.push("there is a Docker snap too; it is left alone".to_owned());
        }
        Some(Self {
            facts: Facts {
                name: "docker".into(),
                running: host.is_live().then(|| answers(host).is_ok()),
                config: Some(config.clone()),
                configured: false,
                notes,
                version: version.clone(),
            },
            version: super::major_minor(version.as_deref().unwrap_or_default()),
            config,
            unit,
        })
    }

    fn values(&self, wanted: &Wanted, current: &Value) -> Result<Vec<(Vec<String>, Value)>, Error> {
        let key = |keys: &[&str]| keys.iter().map(|k| (*k).to_owned()).collect::<Vec<_>>();
        let mut values = Vec::new();
        if wanted.mode != Mode::Cdi {
            let at = key(&["runtimes", &wanted.runtime_name]);
            let path = wanted.runtime_path.display().to_string();
            if let Some(theirs) = json::get(current, &at)
                && theirs.get("path").and_then(Value::as_str) != Some(&path)
            {
                return Err(Error::Config {
                    path: self.config.clone(),
                    why: format!(
                        "has a runtime {:?} that is not ours: {theirs}",
                        wanted.runtime_name
                    ),
                    fix: "remove that entry, or leave it and use `gpusetup install --mode cdi`"
                        .into(),
                });
            }
            values.push((at, json!({ "path": path })));
            if wanted.default_runtime {
                values.push((key(&["default-runtime"]), json!(wanted.runtime_name)));
            }
        }
        if wanted.mode != Mode::Runtime && CDI_BY_FEATURE.contains(&self.version) {
            values.push((key(&["features", "cdi"]), json!(true)));
        }
        // What is as wanted already is not touched, whatever its layout or further keys.
        values.retain(
            |(keys, value)| match (json::get(current, keys), value.get("path")) {
                (Some(found), Some(path)) => found.get("path") != Some(path),
                (Some(found), None) => found != value,
                (None, _) => true,
            },
        );
        Ok(values)
    }

    fn daemon_json(&self, host: &Host, wanted: &Wanted) -> Result<Option<Change>, Error> {
        let before = host.text(&self.config)?;
        let refused = |why: String| {
            Error::Config {
            path: self.config.clone(),
            why,
            fix: "dockerd reads strict JSON; mend the file, then run this again. Nothing was changed.".into(),
        }
        };
        let text = before.clone().unwrap_or_default();
        let current = if text.trim().is_empty() {
            json!({})
        } else {
            json::parse(&text).map_err(|e| refused(e.to_string()))?
        };
        let values = self.values(wanted, &current)?;
        if values.is_empty() {
            return Ok(None);
        }
        // dockerd stops at a key that is given both ways (moby daemon/config, findConfigurationConflicts).
        for (flag, key) in [
            ("--add-runtime", "runtimes"),
            ("--default-runtime", "default-runtime"),
            ("--feature", "features"),
        ] {
            if let Some(place) = self
                .unit
                .where_is(flag)
                .filter(|_| values.iter().any(|(k, _)| k[0] == key))
            {
                return Err(Error::Config {
                    path: place.to_owned(),
                    why: format!(
                        "starts dockerd with {flag}, and dockerd refuses {key:?} in {} beside it",
                        self.config.display()
                    ),
                    fix: format!(
                        "move {flag} into {}, then run this again",
                        self.config.display()
                    ),
                });
            }
        }
        let after = json::set(&text, &values).map_err(|e| refused(e.to_string()))?;
        let said: Vec<String> = values
            .iter()
            .map(|(keys, value)| match keys[0].as_str() {
                "runtimes" => format!("add runtime {:?}", wanted.runtime_name),
                "features" => "turn on CDI".into(),
                _ => format!("set {} to {value}", keys.join(".")),
            })
            .collect();
        Ok(Some(Change {
            path: self.config.clone(),
            before,
            after: Some(after),
            mode: 0o644,
            why: said.join("; "),
            kind: FileKind::Json {
                keys: values.into_iter().map(|(k, _)| k).collect(),
            },
        }))
    }

    /// `docker run --gpus` works when dockerd finds the hook on its PATH at its start.
    fn drop_in(&self, host: &Host, wanted: &Wanted) -> Result<Option<Change>, Error> {
        let ours = wanted.names_dir.join(HOOK);
        let path = self.unit.environment("PATH").unwrap_or_else(|| PATH.into());
        let found = path
            .split(':')
            .map(|dir| Path::new(dir).join(HOOK))
            .find(|p| host.root().exists(p));
        let is_ours = found.is_some_and(|f| f == ours || same_file(host, &f, &ours));
        if is_ours || wanted.mode == Mode::Cdi {
            return Ok(None);
        }
        let rest: Vec<&str> = path
            .split(':')
            .filter(|d| Path::new(d) != wanted.names_dir)
            .collect();
        let after = format!(
            "# Written by gpusetup. `docker run --gpus` works where dockerd finds {HOOK} on its PATH.\n\
             [Service]\nEnvironment=\"PATH={}:{}\"\n",
            wanted.names_dir.display(),
            rest.join(":")
        );
        let path = PathBuf::from(DROP_IN);
        Ok(Some(Change {
            before: host.text(&path)?,
            path,
            after: Some(after),
            mode: 0o644,
            why: "let `docker run --gpus` find its hook".into(),
            kind: FileKind::Own,
        }))
    }
}

fn same_file(host: &Host, a: &Path, b: &Path) -> bool {
    let real = |p: &Path| host.root().canonicalize(p).ok();
    real(a).is_some() && real(a) == real(b)
}

fn installed_version(host: &Host) -> Option<String> {
    if host.is_live()
        && let Ok(out) = host.run(&["dockerd", "--version"], Duration::from_secs(10))
    {
        // "Docker version 26.1.5+dfsg1, build a72d7cd"
        let word = out.stdout.split_whitespace().nth(2)?;
        return Some(word.trim_end_matches(',').to_owned());
    }
    host.package_version(&["docker-ce", "docker.io", "moby-engine"])
}

fn answers(host: &Host) -> Result<Vec<String>, String> {
    let argv = [
        "docker",
        "info",
        "--format",
        "{{range $name, $_ := .Runtimes}}{{$name}} {{end}}",
    ];
    match host.run(&argv, Duration::from_secs(10)) {
        Ok(out) if out.ok() => Ok(out.stdout.split_whitespace().map(str::to_owned).collect()),
        Ok(out) => Err(out.last_line().to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

impl Engine for Docker {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn facts_mut(&mut self) -> &mut Facts {
        &mut self.facts
    }

    fn changes(&self, host: &Host, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        let both = [self.daemon_json(host, wanted)?, self.drop_in(host, wanted)?];
        Ok(both
            .into_iter()
            .flatten()
            .filter(Change::is_needed)
            .collect())
    }

    fn owns(&self, path: &Path) -> bool {
        path == self.config || path == Path::new(DROP_IN)
    }

    fn activation(&self, host: &Host, changes: &[Change]) -> Activation {
        if changes.is_empty() {
            return Activation::default();
        }
        Activation {
            restart: Some("docker.service".into()),
            daemon_reload: changes.iter().any(|c| c.path == Path::new(DROP_IN)),
            effect: effect(host),
        }
    }

    fn check(&self, host: &Host) -> Result<(), Error> {
        // `--validate` is there from 23.0; before, what we wrote was checked as it was made.
        if !host.is_live() || self.version < (23, 0) || !host.root().exists(&self.config) {
            return Ok(());
        }
        let file = self.config.display().to_string();
        let out = host.run(
            &["dockerd", "--validate", "--config-file", &file],
            Duration::from_secs(30),
        )?;
        if out.ok() {
            return Ok(());
        }
        Err(Error::failed(
            format!("dockerd refuses its configuration: {}", out.last_line()),
            "",
        ))
    }

    fn health(&self, host: &Host) -> Result<(), Error> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            match answers(host) {
                Ok(_) => return Ok(()),
                Err(said) if Instant::now() >= end => {
                    return Err(Error::failed(
                        format!("docker did not come back: {said}"),
                        "",
                    ));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }
}

/// What a restart stops, in words.
fn effect(host: &Host) -> String {
    if !host.is_live() {
        return String::new();
    }
    let ask = |argv: &[&str]| {
        host.run(argv, Duration::from_secs(10))
            .ok()
            .filter(super::super::host::Output::ok)
    };
    let Some(out) = ask(&["docker", "ps", "--format", "{{.Names}}"]) else {
        return String::new();
    };
    let names: Vec<&str> = out.stdout.lines().collect();
    let live = ask(&["docker", "info", "--format", "{{.LiveRestoreEnabled}}"])
        .is_some_and(|o| o.stdout.trim() == "true");
    match (names.len(), live) {
        (0, _) => "no containers run".into(),
        (_, true) => "running containers keep running (live-restore)".into(),
        (n, false) => format!(
            "{n} running containers stop: {} (live-restore is off)",
            names.join(", ")
        ),
    }
}
