//! `gpusetup plan` and `gpusetup install`.

use crate::apply::{self, How};
use crate::cli::{Common, InstallArgs};
use crate::engines::Wanted;
use crate::error::Error;
use crate::host::Host;
use crate::plan::{Asked, Plan};
use crate::report::{self, Progress};
use crate::{commands, lock, signals};

fn asked(host: &Host, args: &InstallArgs) -> Asked {
    Asked {
        wanted: Wanted {
            mode: args.mode,
            default_runtime: args.default_runtime,
            existing: args.existing,
            ..Wanted::default()
        },
        only: args.engines.clone(),
        restart: !args.no_restart && host.is_live(),
    }
}

fn show(plan: &Plan, common: &Common, progress: &Progress, restart: bool) {
    if common.json {
        return;
    }
    for warning in &plan.warnings {
        progress.warn(warning);
    }
    if plan.is_empty() {
        report::result("Nothing to do: everything is set up.\n");
    } else {
        report::result(&format!("\n{}\n", report::plan(plan, "create", restart)));
    }
}

/// Tells, changes nothing; 2 where there is something to do.
pub fn plan(host: &Host, common: &Common, args: &InstallArgs) -> Result<u8, Error> {
    let progress = Progress::new(common.quiet);
    let asked = asked(host, args);
    let plan = Plan::make(host, &asked)?;
    show(&plan, common, &progress, asked.restart);
    if common.json {
        report::result(&format!(
            "{}\n",
            report::document(Some(&plan), !plan.is_empty(), &[], false)
        ));
    }
    Ok(if plan.is_empty() { 0 } else { 2 })
}

pub fn install(host: &Host, common: &Common, args: &InstallArgs) -> Result<u8, Error> {
    if args.dry_run {
        return self::plan(host, common, args);
    }
    commands::need_root(host)?;
    let progress = Progress::new(common.quiet);
    let asked = asked(host, args);
    let held = signals::hold()?;
    // Planned under the lock: another run may end between a look and the lock.
    let _lock = lock::take(host)?;
    let recovered = apply::recover(host, &progress)?;
    let plan = Plan::make(host, &asked)?;
    show(&plan, common, &progress, asked.restart);
    if plan.is_empty() {
        if common.json {
            let document = report::document(Some(&plan), recovered, &[], true);
            report::result(&format!("{document}\n"));
        }
        return Ok(0);
    }
    if args.keep_containers {
        plan.stops_nothing("install")?;
    }
    if !commands::confirmed(args.yes, "Go ahead?")? {
        report::result("Nothing was changed.\n");
        return Ok(0);
    }
    let how = How {
        restart: asked.restart,
        verify: !args.no_verify && asked.restart,
    };
    let verified = apply::apply(host, &plan, how, &held, &progress)?;
    if common.json {
        report::result(&format!(
            "{}\n",
            report::document(Some(&plan), true, &verified, asked.restart)
        ));
    } else {
        report::result(&last_words(&plan, asked.restart, host.is_live()));
    }
    Ok(0)
}

fn last_words(plan: &Plan, restarted: bool, live: bool) -> String {
    let mut text = String::from("Done.");
    if !restarted && live && !plan.services().is_empty() {
        let mut commands: Vec<String> = plan
            .services()
            .iter()
            .map(|s| s.restart_command().join(" "))
            .collect();
        // A restart alone would be of the unit as it was read before.
        if !plan.reloads().is_empty() {
            commands.insert(0, "systemctl daemon-reload".into());
        }
        text.push_str(&format!(
            " For it to take effect: {}.",
            commands.join(" && ")
        ));
    }
    let names: Vec<&str> = plan
        .engines
        .iter()
        .map(|(e, _)| e.facts().name.as_str())
        .collect();
    if names.contains(&"docker") {
        text.push_str(" Try: docker run --rm --gpus all ubuntu nvidia-smi");
    } else if names.contains(&"docker-rootless") {
        text.push_str(" Try: docker run --rm --runtime nvidia -e NVIDIA_VISIBLE_DEVICES=all ubuntu nvidia-smi");
    } else if names.contains(&"podman") {
        text.push_str(" Try: podman run --rm --device nvidia.com/gpu=all ubuntu nvidia-smi");
    }
    text + "   Undo: gpusetup undo\n"
}
