//! Finds the runtime that ours does the same as, and the low-level program below it.
//!
//! Where another toolkit's runtime of our name is taken over, that is the one: pods run by it, and their state is where its
//! table says. Otherwise it is CRI-O's default runtime, as flags, variables and files say, or the built-in one.

use std::path::{Path, PathBuf};

use gpu_host::programs;
use gpu_inject::policy::Policy;
use toml_edit::{Array, Item, TableLike, Value};

use super::config::MergedConfig;
use super::installation::Installation;
use super::table::{Base, edited, monitors_path, values};
use crate::edit::meaning;
use crate::error::Error;
use crate::error::config_fault::ConfigFault;
use crate::error::engine_fault::EngineFault;
use crate::host::Host;
use crate::model::setup_options::SetupOptions;

/// The first version whose default runtime is crun (CRI-O 1.31, pkg/config).
const CRUN: (u32, u32) = (1, 31);
/// The first versions whose built-in runtime allows annotations, and that for devices among them (CRI-O 1.22 and 1.28).
const ANNOTATIONS: [(u32, u32); 2] = [(1, 22), (1, 28)];
/// The first version in which the name of an annotation for devices is the newer one (CRI-O 1.35, pkg/annotations).
const NEW_ANNOTATIONS: (u32, u32) = (1, 35);
/// What the names of NVIDIA's runtime begin with, which starts a low-level one.
const WRAPPER: &str = "nvidia-container-runtime";
/// Where NVIDIA's GPU operator has its programs; its runtime reads a configuration of its own (gpu-operator,
/// assets/state-container-toolkit).
const OPERATOR: &str = "/usr/local/nvidia/toolkit";

/// What is found below a table.
struct Below {
    program: Option<PathBuf>,
    is_by_list: bool,
    looked_for: String,
}

impl Installation {
    fn built_in(&self) -> &'static str {
        if self.is_before(CRUN) { "runc" } else { "crun" }
    }

    /// The runtime that ours does the same as; an error if its low-level program is not installed.
    pub(super) fn base(
        &self,
        host: &Host,
        merged: &MergedConfig,
        policy: &Policy,
        wanted: &SetupOptions,
    ) -> Result<Base, Error> {
        let name = &wanted.runtime_name;
        let usual = || self.usual(host, merged, policy, wanted);
        let Some((path, table)) = merged.runtime(name) else {
            return usual();
        };
        if is_for_machines(table) {
            let fault = ConfigFault::UnfitRuntime {
                name: name.clone(),
                what: "with runtime_type \"vm\", which is not for our program".into(),
            };
            return Err(Error::config(path, fault));
        }
        let below = self.below(host, policy, wanted, name, Some(table));
        let (program, is_by_list) = match below.program {
            Some(program) => (program, below.is_by_list),
            // It starts no container as it is.
            None => match usual() {
                Ok(base) => (base.program, false),
                Err(_) => return Err(no_low_level(path, name, below.looked_for)),
            },
        };
        let adopted = Base {
            name: format!("the one in {}", path.display()),
            settings: self.settings(merged, wanted, table),
            program,
            is_by_list,
        };
        // Ours was made of the default runtime before somebody else has added this table: pods run with those settings.
        if host.root().exists(self.drop_in())
            && !self.is_made_of(host, &adopted, wanted)
            && let Ok(base) = usual()
            && self.is_made_of(host, &base, wanted)
        {
            return Ok(base);
        }
        Ok(adopted)
    }

    /// CRI-O's default runtime. If the default is ours, or starts virtual machines and so is no OCI runtime, it is what the
    /// files say before that, and in the end the built-in one.
    fn usual(
        &self,
        host: &Host,
        merged: &MergedConfig,
        policy: &Policy,
        wanted: &SetupOptions,
    ) -> Result<Base, Error> {
        let name = self.usual_name(merged, wanted);
        let found = merged.runtime(name);
        let table = found.map(|(_, table)| table);
        let below = self.below(host, policy, wanted, name, table);
        let Some(program) = below.program else {
            return Err(match found {
                Some((path, _)) => no_low_level(path, name, below.looked_for),
                // No file says so.
                None => Error::engine(
                    "crio",
                    EngineFault::NoBuiltIn {
                        runtime: name.to_owned(),
                        looked_for: below.looked_for,
                    },
                ),
            });
        };
        let settings = match table {
            Some(table) => self.settings(merged, wanted, table),
            None => self.built_in_settings(),
        };
        Ok(Base {
            name: name.to_owned(),
            settings,
            program,
            is_by_list: below.is_by_list,
        })
    }

    fn usual_name<'a>(&self, merged: &'a MergedConfig, wanted: &SetupOptions) -> &'a str {
        let is_usual = |name: &&str| {
            let table = merged.runtime(name).map(|(_, table)| table);
            let is_there = table.map_or(*name == self.built_in(), |t| !is_for_machines(t));
            *name != wanted.runtime_name && is_there
        };
        merged.defaults().find(is_usual).unwrap_or(self.built_in())
    }

    /// What CRI-O has for its built-in runtime where no file has a table of it (CRI-O pkg/config,
    /// `defaultRuntimeHandler`). Older versions leave out keys that they do not know.
    fn built_in_settings(&self) -> Vec<(String, Value)> {
        let path = format!("PATH={}", programs::DIRS.join(":"));
        let devices = if self.is_before(NEW_ANNOTATIONS) {
            "io.kubernetes.cri-o.Devices"
        } else {
            "devices.crio.io"
        };
        let annotations = ["io.containers.trace-syscall", devices]
            .into_iter()
            .zip(ANNOTATIONS);
        let annotations = annotations.filter(|(_, since)| !self.is_before(*since));
        let annotations: Array = annotations.map(|(name, _)| name).collect();
        let mut settings = vec![("monitor_env".to_owned(), [path].into_iter().collect())];
        if !annotations.is_empty() {
            settings.push(("allowed_annotations".to_owned(), annotations.into()));
        }
        if !self.is_before(CRUN) {
            settings.push(("container_min_memory".to_owned(), "500KiB".into()));
        }
        settings
    }

    /// All settings of a table but those that lead to its program.
    fn settings(
        &self,
        merged: &MergedConfig,
        wanted: &SetupOptions,
        table: &dyn TableLike,
    ) -> Vec<(String, Value)> {
        // Each of these keys would override our path.
        const OF_PROGRAM: [&str; 3] = [
            "runtime_path",
            "platform_runtime_paths",
            "inherit_default_runtime",
        ];
        // These come from the default runtime then (CRI-O pkg/config, `ValidateRuntimes`, from 1.32 on).
        const INHERITED: [&str; 3] = ["runtime_type", "runtime_root", "runtime_config_path"];
        let inherits = table.get("inherit_default_runtime").and_then(Item::as_bool) == Some(true);
        let values = |table: &dyn TableLike| -> Vec<(String, Value)> {
            let items = table.iter();
            let values =
                items.filter_map(|(k, i)| Some((k.to_owned(), i.clone().into_value().ok()?)));
            values
                .filter(|(k, _)| !OF_PROGRAM.contains(&k.as_str()))
                .collect()
        };
        let mut settings = values(table);
        if inherits {
            let is_inherited = |key: &str| INHERITED.contains(&key);
            settings.retain(|(key, _)| !is_inherited(key));
            let default = merged.runtime(self.usual_name(merged, wanted));
            let theirs = default.map(|(_, table)| values(table)).unwrap_or_default();
            settings.extend(theirs.into_iter().filter(|(key, _)| is_inherited(key)));
        }
        settings
    }

    /// The low-level program that a runtime starts in the end.
    fn below(
        &self,
        host: &Host,
        policy: &Policy,
        wanted: &SetupOptions,
        name: &str,
        table: Option<&dyn TableLike>,
    ) -> Below {
        let text = |key: &str| {
            table
                .and_then(|t| t.get(key)?.as_str())
                .filter(|t| !t.is_empty())
        };
        let program = text("runtime_path").unwrap_or(name);
        if !is_wrapper(program) && !wanted.is_our_shim(host, program) {
            return Below {
                program: self.find(host, program, &[]),
                is_by_list: false,
                looked_for: program.to_owned(),
            };
        }
        let own = Path::new(program)
            .starts_with(OPERATOR)
            .then(|| Path::new(OPERATOR).join(".config/nvidia-container-runtime/config.toml"))
            .and_then(|path| Policy::from_toml(&host.lossy_text(&path)?, &path).ok());
        let list = own.as_ref().map_or(&policy.runtimes, |own| &own.runtimes);
        let of_monitor = table.and_then(|t| t.get("monitor_env")?.as_value());
        let of_monitor = of_monitor.map(monitors_path).unwrap_or_default();
        let found = list.iter().find_map(|r| self.find(host, r, &of_monitor));
        Below {
            is_by_list: found.is_some() && found == self.first_of(host, &policy.runtimes, &[]),
            program: found,
            looked_for: list.join(", "),
        }
    }

    /// Whether somebody else than our runtime here goes by the shim's list: another engine of this host, or another of
    /// CRI-O's runtimes.
    pub(super) fn shares_list(host: &Host, merged: &MergedConfig, wanted: &SetupOptions) -> bool {
        let programs = merged.programs();
        let mut others = programs
            .iter()
            .filter(|(name, ..)| *name != wanted.runtime_name);
        host.has_program("dockerd")
            || host.has_program("containerd")
            || others
                .any(|(_, _, program)| is_wrapper(program) || wanted.is_our_shim(host, program))
    }

    /// The program of a list that our shim finds first. The monitor starts it with a PATH of its own, CRI-O with that of
    /// its unit.
    fn first_of(&self, host: &Host, list: &[String], more: &[PathBuf]) -> Option<PathBuf> {
        list.iter().find_map(|r| self.find(host, r, more))
    }

    /// The program that our shim makes containers with, by this list.
    pub(super) fn makes(&self, host: &Host, list: &[String], base: &Base) -> Option<PathBuf> {
        self.first_of(host, list, &base.monitors_path())
    }

    /// Whether the shim's list begins with the base's program, so that it makes new containers whatever is installed later.
    pub(super) fn begins_with(&self, host: &Host, list: &[String], base: &Base) -> bool {
        let is_first = |more: &[PathBuf]| {
            let first = list.first().and_then(|r| self.find(host, r, more));
            first.as_deref() == Some(&base.program)
        };
        is_first(&[]) && is_first(&base.monitors_path())
    }

    fn find(&self, host: &Host, program: &str, more: &[PathBuf]) -> Option<PathBuf> {
        let dirs = more.iter().chain(&self.path);
        let mut places = dirs.map(|dir| dir.join(program));
        let found = places.find(|place| host.root().exists(place));
        found.or_else(|| host.program(program))
    }

    /// Whether our drop-in, as it is now, was made of this one.
    fn is_made_of(&self, host: &Host, base: &Base, wanted: &SetupOptions) -> bool {
        let path = self.drop_in();
        let Ok(Some(now)) = host.text(&path) else {
            return false;
        };
        [true, false].into_iter().any(|default_runtime| {
            let wanted = SetupOptions {
                default_runtime,
                ..wanted.clone()
            };
            let values = values(base, &wanted);
            edited(&path, None, &values).is_ok_and(|made| meaning::same_text(&now, &made))
        })
    }
}

/// Whether it is NVIDIA's runtime, in any of its modes.
fn is_wrapper(program: &str) -> bool {
    let name = Path::new(program).file_name().unwrap_or_default();
    name.to_string_lossy().starts_with(WRAPPER)
}

fn is_for_machines(table: &dyn TableLike) -> bool {
    table.get("runtime_type").and_then(|t| t.as_str()) == Some("vm")
}

fn no_low_level(path: &Path, runtime: &str, looked_for: String) -> Error {
    let runtime = runtime.to_owned();
    let fault = ConfigFault::NoLowLevel {
        runtime,
        looked_for,
    };
    Error::config(path, fault)
}
