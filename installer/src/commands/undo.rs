//! `gpusetup undo`: restores the host to its state before gpusetup.

use std::path::PathBuf;

use crate::cli::args::{Common, UndoArgs};
use crate::commands::session::{EarlierRun, Rights, Session};
use crate::engines;
use crate::engines::dependent::Dependence;
use crate::error::Error;
use crate::error::exit::Exit;
use crate::error::invocation::Invocation;
use crate::host::Host;
use crate::host::answer::Answer;
use crate::model::host_state::HostState;
use crate::model::setup_options::SetupOptions;
use crate::render::{host_state, json, plan};
use crate::setup::{due, leftovers, undo_planner};
use crate::terminal::progress::Progress;
use crate::terminal::screen::Screen;
use crate::terminal::{prompt, stdio};
use crate::transaction::ended::Ended;
use crate::transaction::journal::Journal;
use crate::transaction::plan::Plan;
use crate::transaction::run;
use crate::transaction::run_options::{RollbackScope, RunOptions};
use crate::transaction::verification;

const NOTHING: &str = "Nothing to undo: gpusetup has changed nothing here.\n";

pub fn run(host: &Host, common: &Common, args: &UndoArgs) -> Result<Exit, Error> {
    if args.dry_run {
        return look(host, common, args);
    }
    let session = Session::begin(host, common, Rights::Engines, EarlierRun::EndFirst)?;
    let Some((mut plan, receipt)) = undo_planner::plan(host)? else {
        ensure_nothing_left(host, false)?;
        let ended = Ended {
            left_earlier: session.left_of_earlier_run().to_vec(),
            ..Ended::default()
        };
        let due = due::after_undo(host, &engines::detect(host));
        if common.json {
            let document = nothing_document(&due, &ended);
            stdio::result(&format!("{document}\n"));
        } else if ended.shortfalls().is_empty() {
            nothing(&due, common);
        } else {
            let last_line = format!(
                "Nothing to undo, but {}.",
                ended.shortfalls().join("; and ")
            );
            stdio::result(&Screen::output(common.plain).paragraph("", 0, &last_line));
        }
        let is_due = !args.no_restart && due.ours().next().is_some();
        return Ok(match ended.exit() {
            Exit::Done if is_due => Exit::Partly,
            exit => exit,
        });
    };
    let left = if args.leave_runtime {
        undo_planner::leave_runtime(host, &mut plan)?
    } else {
        Vec::new()
    };
    let restart = !args.no_restart && host.is_live();
    warn(&plan, common, &session.progress);
    if !common.json {
        stdio::result(&format!(
            "\n{}\n",
            plan::text(&plan, "restore", restart, Screen::output(common.plain))
        ));
    }
    plan::to_log(&plan, restart);
    ensure_harmless(host, &plan, args)?;
    let asks = Screen::error(common.plain);
    if !prompt::confirmed(args.yes, "Go ahead?", asks, &session.signals)? {
        stdio::result("Nothing was changed.\n");
        return Ok(Exit::Done);
    }
    let how = RunOptions {
        checks_before: false,
        restart,
        verify: false,
        looks_again: false,
        scope: RollbackScope::Run,
    };
    let mut ended = run::undo(&session.context(), &mut plan, &receipt, how)?;
    ended.left_earlier = session.left_of_earlier_run().to_vec();
    ended.outcome.not_verified = verification::not_restarted(&plan);
    ensure_nothing_left(host, true)?;
    if common.json {
        stdio::result(&format!(
            "{}\n",
            json::document(Some(&plan), true, &ended, restart)
        ));
    } else {
        let to_take_effect = plan::to_take_effect(&plan).filter(|_| !restart && host.is_live());
        let last_line = last_line(&ended.shortfalls(), &left, to_take_effect.as_deref());
        stdio::result(&Screen::output(common.plain).paragraph("", 0, &last_line));
    }
    Ok(ended.exit())
}

/// The last line. `left`: the files that keep a runtime of our runtime's name. `to_take_effect`: what has to be done
/// until engines run without what gpusetup had set up.
fn last_line(shortfalls: &[String], left: &[PathBuf], to_take_effect: Option<&str>) -> String {
    let name = SetupOptions::default().runtime_name;
    let files: Vec<String> = left.iter().map(|p| p.display().to_string()).collect();
    let kept = format!(
        "runtime {name:?} in {}, which is plain runc",
        files.join(", ")
    );
    if let Some(words) = to_take_effect {
        let kept = (!left.is_empty()).then(|| format!("but for {kept}"));
        let buts: Vec<String> = kept.into_iter().chain(shortfalls.iter().cloned()).collect();
        let buts = if buts.is_empty() {
            String::new()
        } else {
            format!(", {}", buts.join("; and "))
        };
        return format!(
            "Undone in the files{buts}. The engines go on with what gpusetup had set up until they are restarted. {words}"
        );
    }
    match (shortfalls, left) {
        ([], []) => "Done: this host is as it was before gpusetup.".to_owned(),
        ([], _) => format!("Done: this host is as it was before gpusetup, but for {kept}."),
        (buts, []) => format!("Undone, but {}.", buts.join("; and ")),
        (buts, _) => format!("Undone, but for {kept}; and {}.", buts.join("; and ")),
    }
}

/// Searches the files that engines read, as they are now: fails if one still names our programs.
fn ensure_nothing_left(host: &Host, undone: bool) -> Result<(), Error> {
    let left = leftovers::after(host, &engines::detect(host), &[])?;
    if left.is_empty() {
        return Ok(());
    }
    let places: Vec<String> = left.iter().map(ToString::to_string).collect();
    if !undone && left.iter().all(|place| place.found.is_err()) {
        return Err(Error::Unread(places.join("; ")));
    }
    Err(Error::StillNamed { undone, places })
}

/// `--dry-run`: shows what undo would do or why it would refuse. Returns 2 if there is something
/// to do.
fn look(host: &Host, common: &Common, args: &UndoArgs) -> Result<Exit, Error> {
    let restart = !args.no_restart && host.is_live();
    let interrupted = Journal::load(host)?.is_some();
    let progress = Progress::new(common);
    if interrupted {
        progress.warn("an earlier run did not end; it is put back first, or noted down as done");
    }
    let mut plan = undo_planner::plan(host)?.map(|(plan, _)| plan);
    if let Some(plan) = plan.as_mut().filter(|_| args.leave_runtime) {
        undo_planner::leave_runtime(host, plan)?;
    }
    let changes = interrupted || plan.is_some();
    if !changes {
        ensure_nothing_left(host, false)?;
    }
    if let Some(plan) = &plan {
        warn(plan, common, &progress);
        ensure_harmless(host, plan, args)?;
    }
    // What an undo without a restart has left.
    let due = if changes {
        HostState::default()
    } else {
        due::after_undo(host, &engines::detect(host))
    };
    if common.json && !changes {
        let document = nothing_document(&due, &Ended::default());
        stdio::result(&format!("{document}\n"));
    } else if common.json {
        let document = json::document(plan.as_ref(), changes, &Ended::default(), restart);
        stdio::result(&format!("{document}\n"));
    } else if let Some(plan) = &plan {
        stdio::result(&format!(
            "\n{}\n",
            plan::text(plan, "restore", restart, Screen::output(common.plain))
        ));
    } else if !interrupted {
        nothing(&due, common);
    }
    Ok(Exit::if_found(changes || due.ours().next().is_some()))
}

/// Says that no file has anything to undo, and which engines still run with what they have read.
fn nothing(due: &HostState, common: &Common) {
    let screen = Screen::output(common.plain);
    let actions = host_state::due_after_undo(due);
    stdio::result(if actions.is_empty() {
        NOTHING
    } else {
        "Nothing to undo in the files.\n"
    });
    for line in actions.into_iter().chain(host_state::remarks(due)) {
        stdio::result(&screen.paragraph("", 0, &line));
    }
}

fn nothing_document(due: &HostState, ended: &Ended) -> serde_json::Value {
    let mut document = json::document(None, false, ended, true);
    let services: Vec<&String> = due.doable().map(|d| &d.service).collect();
    document["restart_required"] = serde_json::json!(services);
    document["restarts_due"] = serde_json::json!(due.due);
    document["warnings"] = serde_json::json!(host_state::due_after_undo(due));
    document
}

fn warn(plan: &Plan, common: &Common, progress: &Progress) {
    for warning in &plan.warnings {
        if common.json {
            // The document contains the warnings; they go to the log as well.
            log::warn!("{warning}");
        } else {
            progress.warn(warning);
        }
    }
}

/// Refuses an undo that would harm containers, unless the flags allow it.
fn ensure_harmless(host: &Host, plan: &Plan, args: &UndoArgs) -> Result<(), Error> {
    if !args.force {
        ensure_no_dependents(host, plan)?;
    }
    if args.keep_containers {
        plan.ensure_no_container_stops(Invocation::Undo)?;
    }
    Ok(())
}

/// Refuses an undo after which existing containers could not start again, or if it is not known whether there are
/// such containers.
fn ensure_no_dependents(host: &Host, plan: &Plan) -> Result<(), Error> {
    let (mut gpus, mut named, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for (engine, _) in &plan.engines {
        let name = &engine.facts().name;
        match engine.dependent_containers(host) {
            Answer::Known(containers) => {
                for container in containers {
                    let text = format!("{name}: {}", container.text);
                    match container.need {
                        Dependence::Gpus => gpus.push(text),
                        Dependence::RuntimeName => named.push(text),
                    }
                }
            }
            Answer::None => {}
            Answer::Unknown(why) => unknown.push(format!("{name}: {why}")),
        }
    }
    if undo_planner::keeps_runtime(plan) {
        named.clear();
    }
    if !gpus.is_empty() || !named.is_empty() {
        return Err(Error::InUse { gpus, named });
    }
    if !unknown.is_empty() {
        return Err(Error::InUseUnknown(unknown));
    }
    Ok(())
}
