//! What `install` would do: changes with a reason each, restarts with what they stop.

use std::path::Path;

use gpu_host::{Inventory, Options, discover, distro, init};
use gpu_inject::generate::{self, GenerateOptions, cdi_spec};
use gpu_inject::inventory_store;

use crate::change::{Change, FileKind};
use crate::engines::{self, Activation, Engine, Wanted};
use crate::error::Error;
use crate::host::Host;

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
    /// GPUs of this host.
    pub gpus: usize,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Plan {
    /// Looks at the host and says what is to be done, or why nothing can be.
    pub fn make(host: &Host, asked: &Asked) -> Result<Self, Error> {
        let unsupported = |why: String, fix: &str| Error::Unsupported {
            why,
            fix: fix.to_owned(),
        };
        if let Some(why) = distro::detect(host.root()).unsupported {
            return Err(unsupported(why, "see README, \"What works where\""));
        }
        let engines = chosen(host, &asked.only)?;
        let inventory = inventory(host)?;
        if inventory.driver.is_none() && host.is_live() {
            return Err(no_driver(host));
        }
        let mut plan = Self {
            changes: Vec::new(),
            engines: Vec::new(),
            gpus: inventory.gpus.len(),
            warnings: Vec::new(),
        };
        if inventory.driver.is_some() {
            plan.changes = described(host, &inventory)?;
        } else {
            plan.warnings.push(
                "no driver in this tree; the CDI spec is made at the first boot with one".into(),
            );
        }
        for engine in engines {
            let changes = engine.changes(host, &asked.wanted)?;
            let activation = engine.activation(host, &changes);
            plan.changes.extend(changes);
            plan.engines.push((engine, activation));
        }
        let restarts = asked.restart && host.is_live() && !plan.units().is_empty();
        if restarts && init::detect(host.root()) != init::Init::Systemd {
            return Err(unsupported(
                format!(
                    "systemd does not run here, so {} cannot be restarted",
                    plan.units().join(" and ")
                ),
                "run it with --no-restart, then restart the engines yourself",
            ));
        }
        Ok(plan)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Units to restart.
    pub fn units(&self) -> Vec<String> {
        self.engines
            .iter()
            .filter_map(|(_, a)| a.restart.clone())
            .collect()
    }
}

/// The engines to set up.
pub fn chosen(host: &Host, only: &[String]) -> Result<Vec<Box<dyn Engine>>, Error> {
    let mut found = engines::detect(host);
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
        return Err(Error::Unsupported {
            why: "no container engine is installed: neither docker nor containerd nor podman"
                .into(),
            fix: "install one, for instance `apt install docker.io`".into(),
        });
    }
    Ok(found)
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
    let options = Options {
        driver_root: host.driver_root.clone(),
        ..Options::new(host.root().clone())
    };
    Ok(discover(&options).map_err(gpu_inject::Error::from)?)
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
    let spec = cdi_spec(inventory, &GenerateOptions::default())?;
    let stored = inventory_store::to_bytes(inventory)?;
    let gpus = match inventory.gpus.len() {
        1 => "1 GPU".to_owned(),
        n => format!("{n} GPUs"),
    };
    let files = [
        (
            generate::SPEC_PATH,
            spec.to_yaml().map_err(gpu_inject::Error::from)?,
            format!("CDI: {gpus}, kept fresh by gpusetup-cdi.service"),
        ),
        (
            inventory_store::PATH,
            String::from_utf8_lossy(&stored).into_owned(),
            "so that container starts need not look at the host".to_owned(),
        ),
    ];
    let mut changes = Vec::new();
    for (path, after, why) in files {
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
    changes.retain(Change::is_needed);
    Ok(changes)
}
