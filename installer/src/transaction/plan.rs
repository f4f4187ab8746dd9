//! What `install` would do: changes with a reason each, restarts with what they stop.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use gpu_host::{Inventory, Options, discover, distro, init, kernel, platform};
use gpu_inject::{describe, generate, inventory_store};

use crate::engines;
use crate::engines::engine::{Activation, Engine, Engines, Standing};
use crate::error::Error;
use crate::host::service::Service;
use crate::host::{Host, systemd_scopes};
use crate::model::change::{Change, FileKind};
use crate::model::setup_options::Wanted;
use crate::setup::dev_char;
use crate::setup::other_toolkits::{self, Foreign};
use crate::transaction::preflight;
use crate::transaction::receipt::{self, Record};

/// What the user asks `install` for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// How containers get GPUs.
    pub wanted: Wanted,
    /// Only these engines; all that are found where empty.
    pub only: Vec<String>,
    /// Restart what needs it.
    pub restart: bool,
}

/// A plan.
pub struct Plan {
    /// Files to change, in order.
    pub changes: Vec<Change>,
    /// Engines, with what must happen for their files to take effect.
    pub engines: Vec<(Box<dyn Engine>, Activation)>,
    /// What they are set up as; `None` where a plan only mends or takes back.
    pub wanted: Option<Wanted>,
    /// GPUs of this host.
    pub gpus: usize,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Files of which an older gpusetup noted what they were, without a checksum.
    pub unchecked: BTreeSet<PathBuf>,
    /// What is here of other tools that give containers GPUs.
    pub foreign: Foreign,
}

impl Plan {
    /// Looks at the host and says what is to be done, or why nothing can be.
    pub fn make(host: &Host, asked: &Asked) -> Result<Self, Error> {
        let unsupported = |why: String, fix: &str| Error::Unsupported {
            why,
            fix: fix.to_owned(),
        };
        let distro = distro::detect(host.root());
        let instead = distro.instead.as_ref().map_or_else(
            || "see docs/distributions.md".into(),
            |instead| format!("write this instead:\n\n{}", instead.trim_end()),
        );
        if let Some(why) = distro.unsupported {
            return Err(unsupported(why, &instead));
        }
        if host.is_live() && !kernel::resolves_in_root() {
            return Err(unsupported(
                "this kernel has no openat2(2), without which nothing can be written safely into a container".into(),
                "run Linux 5.6 or later, or your distribution's kernel that has it",
            ));
        }
        // One that cannot be used is a reason to plan nothing: no run could be noted down.
        let receipt = Record::load(host)?.unwrap_or_default();
        let (engines, remarks) = chosen(host, &asked.only)?;
        let inventory = inventory(host)?;
        if inventory.driver.is_none() && host.is_live() {
            return Err(no_driver(host));
        }
        let foreign = Foreign::find(host);
        let is_of_user = engines.iter().any(|e| e.is_of_user());
        let way = if is_of_user {
            of_root_is_there(host)?;
            other_toolkits::Way::default()
        } else {
            foreign.way(host, asked.wanted.existing)?
        };
        let mut plan = Self {
            changes: way.changes,
            engines: Vec::new(),
            wanted: Some(asked.wanted.clone()),
            gpus: inventory.gpus.len(),
            warnings: distro
                .warning
                .into_iter()
                .chain(receipt.remark())
                .chain(remarks)
                .collect(),
            unchecked: receipt.unchecked,
            foreign,
        };
        if is_of_user {
            // What describes the GPUs is root's, and there.
        } else if inventory.driver.is_some() {
            plan.warnings.extend(mismatch(host, &inventory));
            let mut described = described(host, &inventory)?;
            if way.spec_is_theirs {
                described.retain(|c| c.path != Path::new(generate::SPEC_PATH));
            }
            plan.changes.extend(described);
        } else {
            plan.warnings.push(
                "no driver is loaded here; the CDI spec is made at the first boot with one".into(),
            );
        }
        for engine in engines {
            let changes = engine.changes(host, &asked.wanted)?;
            let activation = engine.activation(host, &changes);
            plan.warn(engine.consequences(host, &asked.wanted));
            plan.warn(engine.warnings(host));
            plan.changes.extend(changes);
            plan.engines.push((engine, activation));
        }
        host.was_seen_whole()?;
        let sealed = |c: &&Change| distro.usr.is_read_only() && c.path.starts_with("/usr");
        if let Some(change) = plan.changes.iter().find(sealed) {
            return Err(unsupported(
                format!(
                    "{} would have to change, and /usr is read-only here",
                    change.path.display()
                ),
                &format!(
                    "tell the engine to read a file in /etc, or name others with --engine; or {instead}"
                ),
            ));
        }
        for change in &plan.changes {
            // What this user may not do root may.
            if let Err(refused @ Error::Config { .. }) = preflight::is_free(host, change, false) {
                return Err(refused);
            }
            plan.warnings.extend(preflight::remark(host, change));
        }
        if !plan.is_empty() {
            plan.warnings.extend(way.warnings);
            if !plan.foreign.is_empty() {
                let found = plan.foreign.lines().join("; ");
                plan.warnings.push(format!("found {found}"));
            }
        }
        if asked.restart && host.is_live() && !plan.reloads().is_empty() {
            let losers = systemd_scopes::losers(host);
            if !losers.is_empty() {
                plan.warnings.push(format!(
                    "systemctl daemon-reload takes the GPUs from {}; start them anew afterwards",
                    losers.join(", ")
                ));
            }
        }
        let restarts = asked.restart && host.is_live() && !plan.services().is_empty();
        if restarts && init::detect(host.root()) != init::Init::Systemd {
            return Err(unsupported(
                format!(
                    "systemd does not run here, so {} cannot be restarted",
                    plan.service_names().join(" and ")
                ),
                if platform::detect(host.root()).wsl {
                    "put `systemd=true` below `[boot]` in /etc/wsl.conf, then run `wsl --shutdown` in Windows; or run it with --no-restart"
                } else {
                    "run it with --no-restart, then restart the engines yourself"
                },
            ));
        }
        Ok(plan)
    }

    /// Refuses where a restart would stop containers.
    pub fn stops_nothing(&self, command: &str) -> Result<(), Error> {
        self.names_what_stops()?;
        let stops = self.engines.iter().filter(|(_, a)| !a.stops.is_empty());
        let stops: Vec<String> = stops
            .map(|(engine, a)| format!("{}: {}", engine.facts().name, a.stops.join(", ")))
            .collect();
        if stops.is_empty() {
            return Ok(());
        }
        Err(Error::failed(
            format!("containers would stop: {}", stops.join("; ")),
            format!(
                "run `gpusetup {command}` when they may, or turn on live-restore; nothing was changed"
            ),
        ))
    }

    /// Refuses where containers would stop and could not be started again.
    pub fn names_what_stops(&self) -> Result<(), Error> {
        let Some((engine, _)) = self.engines.iter().find(|(_, a)| a.unnamed) else {
            return Ok(());
        };
        let name = &engine.facts().name;
        Err(Error::failed(
            format!(
                "{name} restarts, and which of its containers run is not known: `docker ps` failed"
            ),
            "see what `docker ps` says, then run this again; or run it with --no-restart; nothing was changed",
        ))
    }

    /// What several engines say is said once.
    fn warn(&mut self, warnings: Vec<String>) {
        for warning in warnings {
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }

    /// What its engines are set up as, for the receipt.
    pub fn asked(&self) -> BTreeMap<String, receipt::Asked> {
        let ours = self.engines.iter().filter(|(e, _)| e.is_ours());
        let asked = self.wanted.iter().flat_map(|wanted| {
            let asked = receipt::Asked::from(wanted);
            ours.clone()
                .map(move |(e, _)| (e.facts().name.clone(), asked))
        });
        asked.collect()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Services to restart or reload.
    pub fn services(&self) -> Vec<Service> {
        let services = self.engines.iter().filter_map(|(_, a)| a.service.clone());
        services.collect()
    }

    /// Their names.
    pub fn service_names(&self) -> Vec<String> {
        self.services().into_iter().map(|s| s.name).collect()
    }

    /// Services whose unit files change, so that their manager must read them again.
    pub fn reloads(&self) -> Vec<Service> {
        let engines = self.engines.iter().filter(|(_, a)| a.daemon_reload);
        let mut services: Vec<Service> = engines.filter_map(|(_, a)| a.service.clone()).collect();
        // `UNIT.d/NAME.conf` of a unit that is no engine's.
        let drop_ins = self.changes.iter().filter_map(|c| {
            let unit = c.path.strip_prefix("/etc/systemd/system").ok()?.parent()?;
            let is_engines = self.engines.iter().any(|(e, _)| e.owns(&c.path));
            let unit = unit.to_str()?.strip_suffix(".d")?;
            (!is_engines).then(|| Service::systemd(unit))
        });
        services.extend(drop_ins);
        services
    }
}

/// The engines to set up, and a remark for each that is not ours.
pub fn chosen(host: &Host, only: &[String]) -> Result<(Engines, Vec<String>), Error> {
    let mut found = engines::detect(host);
    if found.iter().any(|e| e.is_of_user()) {
        // A user sets up what is theirs; the rest is root's.
        let is_root_s = |o: &&String| {
            found
                .iter()
                .any(|e| e.facts().name == **o && !e.is_of_user())
        };
        if let Some(other) = only.iter().find(is_root_s) {
            return Err(Error::Unsupported {
                why: format!("{other} is the system's, not this user's"),
                fix: format!("run `sudo gpusetup install --engine {other}`"),
            });
        }
        found.retain(|e| e.is_of_user());
    }
    let names: Vec<String> = found.iter().map(|e| e.facts().name.clone()).collect();
    if let Some(missing) = only.iter().find(|o| !names.contains(o)) {
        return Err(Error::Unsupported {
            why: format!("{missing} is not installed here; found: {}", listed(&names)),
            fix: "leave it out of --engine, or install it first".into(),
        });
    }
    if !only.is_empty() {
        found.retain(|e| only.contains(&e.facts().name));
    }
    if found.is_empty() {
        let hint = distro::detect(host.root()).engine;
        return Err(Error::Unsupported {
            why: "no container engine is installed: neither docker nor containerd nor podman"
                .into(),
            fix: hint.map_or("install one".into(), |command| {
                format!("install one, for instance `{command}`")
            }),
        });
    }
    let mut remarks = Vec::new();
    for engine in &found {
        let facts = engine.facts();
        let Standing::NotOurs { why, instead } = &facts.standing else {
            continue;
        };
        if only.contains(&facts.name) || found.iter().all(|e| !e.is_ours()) {
            return Err(Error::Unsupported {
                why: format!("{}: {why}", facts.name),
                fix: instead.clone(),
            });
        }
        remarks.push(format!("{} is left alone: {why}; {instead}", facts.name));
    }
    found.retain(|e| e.is_ours());
    Ok((found, remarks))
}

/// What the engines of all users share is root's to write.
fn of_root_is_there(host: &Host) -> Result<(), Error> {
    let files = [generate::SPEC_PATH, inventory_store::PATH];
    match files.into_iter().find(|f| !host.root().exists(f)) {
        None => Ok(()),
        Some(missing) => Err(Error::Unsupported {
            why: format!("{missing} is not there yet, which only root can make"),
            fix: "run `sudo gpusetup install` first, then this again".into(),
        }),
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    }
}

/// What the host has, through NVML where it runs here.
pub fn inventory(host: &Host) -> Result<Inventory, Error> {
    if host.is_image() {
        return Ok(Inventory::default());
    }
    let options = Options {
        driver_root: host.driver_root.clone(),
        ..Options::new(host.root().clone())
    };
    Ok(discover(&options).map_err(gpu_inject::Error::from)?)
}

/// Libraries that are not of the loaded module, so that no container would get a working driver.
pub fn mismatch(host: &Host, inventory: &Inventory) -> Option<String> {
    let options = Options {
        driver_root: host.driver_root.clone(),
        ..Options::new(host.root().clone())
    };
    gpu_host::mismatch(&options, inventory).map(|m| m.to_string())
}

fn no_driver(host: &Host) -> Error {
    let installed = gpu_host::discover::installed_version(host.root(), &host.driver_root);
    match installed {
        Some(version) => Error::Unsupported {
            why: format!("the NVIDIA driver {version} is installed but not loaded"),
            fix: "`modprobe nvidia` tells why, or reboot".into(),
        },
        None => Error::Unsupported {
            why: "no NVIDIA driver is installed".into(),
            fix: "install the driver first; gpusetup does not do that".into(),
        },
    }
}

/// The CDI spec and the stored inventory, where they differ from what is there.
pub fn described(host: &Host, inventory: &Inventory) -> Result<Vec<Change>, Error> {
    let gpus = match inventory.gpus.len() {
        1 => "1 GPU".to_owned(),
        n => format!("{n} GPUs"),
    };
    let mut changes = Vec::new();
    for (path, after) in describe::files(host.root(), inventory)? {
        let why = match path {
            generate::SPEC_PATH => format!("CDI: {gpus}, kept fresh by gpusetup-cdi.service"),
            inventory_store::PATH => "so that container starts need not look at the host".into(),
            _ => "so that containers make no device nodes on their own".into(),
        };
        let path = Path::new(path);
        changes.push(Change {
            path: path.to_owned(),
            before: host.text(path)?,
            after: Some(after),
            mode: 0o644,
            why,
            kind: FileKind::Generated,
        });
    }
    changes.extend(dev_char::links(host, inventory)?);
    changes.retain(Change::is_needed);
    Ok(changes)
}
