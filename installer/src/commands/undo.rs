//! `gpusetup undo`.

use crate::apply::{self, How};
use crate::cli::{Common, UndoArgs};
use crate::error::Error;
use crate::host::Host;
use crate::plan::Plan;
use crate::report::{self, Progress};
use crate::{commands, lock, signals, undo};

pub fn run(host: &Host, common: &Common, args: &UndoArgs) -> Result<u8, Error> {
    commands::need_root(host)?;
    let progress = Progress::new(common.quiet);
    let held = signals::hold()?;
    let _lock = lock::take(host)?;
    apply::recover(host, &progress)?;
    let Some((plan, receipt)) = undo::plan(host)? else {
        if common.json {
            report::result(&format!("{}\n", report::document(None, false, &[], true)));
        } else {
            report::result("Nothing to undo: gpusetup has changed nothing here.\n");
        }
        return Ok(0);
    };
    let restart = !args.no_restart && host.is_live();
    if !common.json {
        report::result(&format!("\n{}\n", report::plan(&plan, "restore", restart)));
    }
    if !args.force {
        nobody_needs_it(host, &plan)?;
    }
    if args.keep_containers {
        plan.stops_nothing("undo")?;
    }
    if !commands::confirmed(args.yes, "Go ahead?")? {
        report::result("Nothing was changed.\n");
        return Ok(0);
    }
    let how = How {
        restart,
        verify: false,
    };
    apply::undo(host, &plan, &receipt, how, &held, &progress)?;
    if common.json {
        report::result(&format!(
            "{}\n",
            report::document(Some(&plan), true, &[], restart)
        ));
    } else {
        report::result("Done: this host is as it was before gpusetup.\n");
    }
    Ok(0)
}

/// Refuses where containers would not start again.
fn nobody_needs_it(host: &Host, plan: &Plan) -> Result<(), Error> {
    let users: Vec<String> = plan
        .engines
        .iter()
        .flat_map(|(engine, _)| {
            let name = engine.facts().name.clone();
            let users = engine.users(host).into_iter();
            users.map(move |user| format!("{name}: {user}"))
        })
        .collect();
    if users.is_empty() {
        return Ok(());
    }
    Err(Error::failed(
        format!(
            "containers use what would go, and would not start again: {}",
            users.join(", ")
        ),
        "remove them first, or run `gpusetup undo --force`; nothing was changed",
    ))
}
