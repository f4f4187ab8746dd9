//! `gpusetup cdi`: lists, checks and refreshes CDI specs.

use std::io;
use std::path::{Path, PathBuf};

use cdi::{Registry, SPEC_DIRS};
use gpu_inject::generate;
use serde_json::json;

use super::{cdi_generate, cdi_transform};
use crate::cli::args::{CdiCommand, Common};
use crate::commands::session::{EarlierRun, Rights, Session};
use crate::error::Error;
use crate::error::exit::Exit;
use crate::host::Host;
use crate::host::answer::Answer;
use crate::setup::{driver_answer, gpu_files, other_toolkits};
use crate::terminal::stdio::{self, say};
use crate::transaction::{refresh_due, regenerated};

pub fn run(host: &Host, common: &Common, command: &CdiCommand) -> Result<Exit, Error> {
    match command {
        CdiCommand::Generate(args) => cdi_generate::run(host, common, args),
        CdiCommand::Transform(command) => cdi_transform::run(common, command),
        CdiCommand::List => {
            list(host, common);
            Ok(Exit::Done)
        }
        CdiCommand::Check => check(host, common),
        CdiCommand::Refresh { patient } => refresh(host, common, *patient),
    }
}

fn registry(host: &Host) -> Registry {
    let mut files = Vec::new();
    for (priority, dir) in SPEC_DIRS.iter().enumerate() {
        let names = match Answer::from(host.root().read_dir(dir)) {
            Answer::Known(names) => names,
            Answer::None => continue,
            Answer::Unknown(why) => {
                files.push((PathBuf::from(dir), priority, Err(io::Error::other(why))));
                continue;
            }
        };
        for name in names {
            let path: PathBuf = Path::new(dir).join(name);
            if path.extension().is_some_and(|e| e == "json" || e == "yaml") {
                let bytes = host.root().read(&path);
                files.push((path, priority, bytes));
            }
        }
    }
    Registry::as_engines(files)
}

/// The specs that engines refuse, each with the reason.
fn refused(registry: &Registry) -> Vec<String> {
    let errors = registry.errors().iter();
    errors
        .map(|(path, e)| format!("{}: {e}", path.display()))
        .collect()
}

/// Hooks whose program is missing: no container starts with a device of such a spec.
fn hooks_gone(host: &Host, registry: &Registry) -> Vec<String> {
    let mut gone = Vec::new();
    for (path, spec) in registry.specs() {
        let edits = spec.devices.iter().map(|d| &d.container_edits);
        let hooks = edits.chain([&spec.container_edits]).flat_map(|e| &e.hooks);
        let missing = hooks.filter(|hook| !host.root().exists(&hook.path));
        gone.extend(missing.map(|hook| {
            format!(
                "{}: the hook {} is not there, so that no container with a device of it starts",
                path.display(),
                hook.path.display()
            )
        }));
    }
    gone
}

fn list(host: &Host, common: &Common) {
    let registry = registry(host);
    for problem in refused(&registry) {
        log::warn!("{problem}");
        stdio::say!("not listed: {problem}");
    }
    let names: Vec<String> = registry
        .devices()
        .into_iter()
        .filter(|(_, file)| file.is_ok())
        .map(|(name, _)| name.to_string())
        .collect();
    if common.json {
        stdio::result(&format!("{}\n", json!({"schema": 1, "devices": names})));
    } else {
        stdio::result(&names.iter().map(|n| format!("{n}\n")).collect::<String>());
    }
}

fn check(host: &Host, common: &Common) -> Result<Exit, Error> {
    let registry = registry(host);
    let mut problems = refused(&registry);
    problems.extend(hooks_gone(host, &registry));
    problems.extend(
        registry
            .devices()
            .into_values()
            .filter_map(|f| f.err().map(|e| e.to_string())),
    );
    let inventory = gpu_files::inventory(host)?;
    problems.extend(gpu_files::mismatch(host, &inventory));
    problems.extend(driver_answer::remarks(&inventory));
    let is_left = other_toolkits::spec_is_left(host)?;
    match (
        &inventory.driver,
        host.text(Path::new(generate::SPEC_PATH))?,
    ) {
        (Some(_), _) if is_left => {}
        (Some(_), Some(_)) if gpu_files::described(host, &inventory)?.is_empty() => {}
        (Some(_), Some(_)) => problems.push(format!(
            "{} is stale; fix: gpusetup cdi refresh",
            generate::SPEC_PATH
        )),
        (Some(_), None) => {
            problems.push(format!("no {}; fix: gpusetup install", generate::SPEC_PATH));
        }
        (None, Some(_)) => problems.push(format!(
            "{} is there but no driver is loaded",
            generate::SPEC_PATH
        )),
        (None, None) => problems.push("no driver is loaded".into()),
    }
    problems.sort();
    problems.dedup();
    if common.json {
        stdio::result(&format!("{}\n", json!({"schema": 1, "problems": problems})));
    } else if problems.is_empty() {
        stdio::result("No problems.\n");
    } else {
        stdio::result(
            &problems
                .iter()
                .map(|p| format!("{p}\n"))
                .collect::<String>(),
        );
    }
    Ok(Exit::if_found(!problems.is_empty()))
}

fn refresh(host: &Host, common: &Common, is_patient: bool) -> Result<Exit, Error> {
    let patience = if is_patient {
        driver_answer::PATIENT
    } else {
        driver_answer::SOON
    };
    // Before the lock is taken: a driver that is slow to answer must not keep others from their runs.
    let mut inventory = gpu_files::inventory_within(host, patience)?;
    let begin = || Session::begin(host, common, Rights::System, EarlierRun::Leave);
    let _session = match begin() {
        Err(Error::Locked { .. }) => {
            refresh_due::leave(host);
            begin()?
        }
        session => session?,
    };
    if !inventory.is_fresh(host.root()) {
        inventory = gpu_files::inventory(host)?;
    }
    if inventory.nvml_silence.is_some() && !is_patient {
        driver_answer::ask_later(host);
    }
    for remark in driver_answer::remarks(&inventory) {
        say!("gpusetup: warning: {remark}");
    }
    let mut changes = gpu_files::described(host, &inventory)?;
    if other_toolkits::spec_is_left(host)? {
        changes.retain(|c| c.path != Path::new(generate::SPEC_PATH));
    }
    regenerated::make_files(host, &changes)?;
    if common.json {
        stdio::result(&format!(
            "{}\n",
            json!({"schema": 1, "changed": !changes.is_empty()})
        ));
    }
    Ok(Exit::Done)
}
