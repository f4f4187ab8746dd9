//! `gpusetup plan` and `gpusetup install`: show what would be set up, and set it up.

use std::path::Path;
use std::time::Instant;

use crate::cli::args::{Common, InstallArgs};
use crate::commands::session::{EarlierRun, Rights, Session};
use crate::commands::without_root;
use crate::engines::activation::Activation;
use crate::engines::engine::Engine;
use crate::error::Error;
use crate::error::exit::Exit;
use crate::error::invocation::Invocation;
use crate::host::Host;
use crate::host::service::Verb;
use crate::host::signals::Interrupt;
use crate::model::setup_options::{DefaultRequest, SetupOptions};
use crate::render::{host_state, json, plan, status as status_text};
use crate::setup::install_planner::{self, InstallRequest};
use crate::setup::status;
use crate::terminal::progress::{self, Progress};
use crate::terminal::prompt::{self, Choice};
use crate::terminal::screen::Screen;
use crate::terminal::stdio;
use crate::transaction::ended::Ended;
use crate::transaction::plan::Plan;
use crate::transaction::run;
use crate::transaction::run_options::{RollbackScope, RunOptions};
use crate::transaction::verification;
use crate::verify::{Outcome, Unverified};

fn request(host: &Host, args: &InstallArgs) -> InstallRequest {
    InstallRequest {
        wanted: SetupOptions {
            mode: args.mode,
            existing: args.existing,
            ..SetupOptions::default()
        },
        default_runtime: match (args.default_runtime, args.no_default_runtime) {
            (true, _) => DefaultRequest::Set,
            (_, true) => DefaultRequest::TakeBack,
            (false, false) => DefaultRequest::Keep,
        },
        only: args.engines.clone(),
        restart: !args.no_restart && host.is_live(),
        all_or_nothing: args.all_or_nothing,
    }
}

fn show(plan: &Plan, common: &Common, progress: &Progress, restart: bool) {
    if common.json {
        // The document contains the warnings; they go to the log as well.
        let due = host_state::remarks(&plan.state).into_iter();
        let due = due.chain(host_state::actions(&plan.state, restart, &plan.skipped));
        let all = plan.warnings.iter().cloned().chain(due);
        all.for_each(|w| log::warn!("{w}"));
        return;
    }
    for warning in &plan.warnings {
        progress.warn(warning);
    }
    for remark in host_state::remarks(&plan.state) {
        progress.warn(&remark);
    }
    let screen = Screen::output(common.plain);
    if plan.has_work(restart) {
        stdio::result(&format!(
            "\n{}\n",
            plan::text(plan, "create", restart, screen)
        ));
    } else if !plan.skipped.is_empty() {
        stdio::result("Nothing to do: everything else is set up.\n");
    } else if !plan.state.needs_action() {
        stdio::result("Nothing to do: everything is set up.\n");
    }
    for line in host_state::actions(&plan.state, restart, &plan.skipped) {
        stdio::result(&screen.paragraph("", 0, &line));
    }
}

/// Shows the plan and changes nothing. Returns 2 if there is something to do.
pub fn plan(host: &Host, common: &Common, args: &InstallArgs) -> Result<Exit, Error> {
    let progress = Progress::new(common);
    let request = request(host, args);
    let plan = install_planner::plan(host, &request)?;
    show(&plan, common, &progress, request.restart);
    let without_root = without_root::of(host, &plan);
    if common.json {
        // What install with the same flags would do: it ends an interrupted run first.
        let changes = plan.has_work(request.restart) || plan.state.interrupted.is_some();
        let mut document = json::document(Some(&plan), changes, &Ended::default(), false);
        document["without_root"] = serde_json::json!(without_root);
        stdio::result(&format!("{document}\n"));
    } else if !without_root.is_empty() {
        let screen = Screen::output(common.plain);
        let words = status_text::not_whole(Invocation::PlanAsRoot);
        stdio::result(&screen.paragraph("", 0, &words));
    }
    Ok(Exit::if_found(
        !plan.is_empty() || !plan.skipped.is_empty() || plan.state.needs_action(),
    ))
}

pub fn install(host: &Host, common: &Common, args: &InstallArgs) -> Result<Exit, Error> {
    if args.dry_run {
        return self::plan(host, common, args);
    }
    let session = Session::begin(host, common, Rights::Engines, EarlierRun::EndFirst)?;
    let mut request = request(host, args);
    let asks = Screen::error(common.plain);
    let mut plan = install_planner::plan(host, &request)?;
    if !args.yes && !common.json && plan.has_work(request.restart) && prompt::is_possible() {
        let host_status = status::HostStatus::of(host)?;
        stdio::say!("{}", host_status.text(host, asks).trim_end());
        if request.only.is_empty() {
            match picked(&plan, request.restart, asks, &session.signals)? {
                Picked::AsPlanned => {}
                Picked::Nothing => {
                    stdio::result("Nothing was changed.\n");
                    return Ok(Exit::Done);
                }
                Picked::Only(engines) => {
                    request.only = engines;
                    let whole = plan;
                    plan = install_planner::plan(host, &request)?;
                    plan.skipped = whole.skipped;
                }
            }
        }
    }
    show(&plan, common, &session.progress, request.restart);
    plan::to_log(&plan, request.restart);
    if !plan.has_work(request.restart) {
        run::note(host, &plan)?;
        // Those that fail are shown already.
        let has_skipped = !plan.skipped.is_empty();
        plan.leave_out_down(&[]);
        let ended = Ended {
            outcome: Outcome {
                not_verified: not_verified(&plan, request.restart),
                ..Outcome::default()
            },
            skipped: plan.skipped.clone(),
            left_earlier: session.left_of_earlier_run().to_vec(),
            ..Ended::default()
        };
        if common.json {
            let recovered = session.recovered.is_some();
            let document = json::document(Some(&plan), recovered, &ended, request.restart);
            stdio::result(&format!("{document}\n"));
        } else if has_skipped || !ended.left_earlier.is_empty() {
            let screen = Screen::output(common.plain);
            stdio::result(&screen.paragraph("", 0, &last_line(&ended, "")));
        }
        return Ok(ended.exit());
    }
    if args.keep_containers {
        plan.ensure_no_container_stops(Invocation::Install)?;
    }
    if !prompt::confirmed(args.yes, "Go ahead?", asks, &session.signals)? {
        stdio::result("Nothing was changed.\n");
        return Ok(Exit::Done);
    }
    let how = RunOptions {
        checks_before: true,
        restart: request.restart,
        verify: !args.no_verify && request.restart,
        looks_again: true,
        scope: if args.all_or_nothing {
            RollbackScope::Run
        } else {
            RollbackScope::Engine
        },
    };
    let started = Instant::now();
    let mut ended = run::apply(&session.context(), &mut plan, how)?;
    ended.left_earlier = session.left_of_earlier_run().to_vec();
    if request.restart && !how.verify {
        // What is verified says so itself.
        ended.outcome.not_verified = verification::not_restarted(&plan);
    }
    plan.leave_out_down(&ended.outcome.engines_not_verified());
    ended.skipped.clone_from(&plan.skipped);
    if common.json {
        stdio::result(&format!(
            "{}\n",
            json::document(Some(&plan), true, &ended, request.restart)
        ));
    } else {
        let screen = Screen::output(common.plain);
        let words = plan::to_take_effect(&plan).filter(|_| !request.restart && host.is_live());
        let words = words.map_or(String::new(), |words| format!(" {words}"));
        let taken = progress::elapsed(started);
        let done = last_line(&ended, &taken);
        stdio::result(&screen.paragraph("", 0, &format!("{done}{words}")));
        stdio::result(&fixes(&ended, screen));
        stdio::result(&next_steps(&plan, host, common, screen));
    }
    Ok(ended.exit())
}

/// Engines of which it is not known whether they need a restart, for a run that would do it, and those that somebody
/// else has to restart.
fn not_verified(plan: &Plan, restart: bool) -> Vec<Unverified> {
    let not_known = plan.state.not_known.iter().filter(|_| restart);
    let not_verified = not_known.map(|n| Unverified {
        engine: n.engine.clone(),
        how: String::new(),
        why: format!("whether it runs with its files is not known: {}", n.why),
    });
    let by_others = plan.state.ours().filter(|_| restart);
    let by_others = by_others.filter_map(|due| {
        Some(Unverified {
            engine: due.engine.clone(),
            how: String::new(),
            why: format!("{}; {}", due.why, due.by_another.clone()?),
        })
    });
    not_verified.chain(by_others).collect()
}

/// What was done, and what was not.
fn last_line(ended: &Ended, taken: &str) -> String {
    match ended.message() {
        None => format!("Done{taken}."),
        Some(buts) if ended.skipped.is_empty() => format!("Set up{taken}, but {buts}."),
        Some(buts) => format!("Partly done{taken}: {buts}."),
    }
}

fn fixes(ended: &Ended, screen: Screen) -> String {
    let fixes = ended.fixes();
    let lines = fixes.iter().map(|fix| screen.paragraph("  fix: ", 7, fix));
    lines.collect()
}

/// Which engines the user wants to set up.
enum Picked {
    /// The engines of the plan: there was nothing to choose.
    AsPlanned,
    /// None of them.
    Nothing,
    /// These.
    Only(Vec<String>),
}

/// Asks which engines to set up if there are several.
fn picked(
    plan: &Plan,
    restart: bool,
    screen: Screen,
    signals: &Interrupt,
) -> Result<Picked, Error> {
    // An engine that only reads the CDI spec has no file of its own, so it is not a choice.
    let is_edited = |e: &dyn Engine| plan.changes.iter().any(|c| e.owns(&c.path));
    let (edited, others): (Vec<_>, Vec<_>) =
        plan.engines.iter().partition(|(e, _)| is_edited(&**e));
    if edited.len() < 2 {
        return Ok(Picked::AsPlanned);
    }
    let choices: Vec<Choice> = edited
        .iter()
        .map(|(engine, activation)| Choice {
            name: engine.facts().name.clone(),
            about: about(&**engine, activation, restart),
        })
        .collect();
    stdio::say!();
    let chosen = prompt::chosen("Set up", &choices, screen, signals)?;
    if chosen.is_empty() {
        return Ok(Picked::Nothing);
    }
    let names = chosen.into_iter().map(|n| choices[n].name.clone());
    let others = others.iter().map(|(e, _)| e.facts().name.clone());
    Ok(Picked::Only(names.chain(others).collect()))
}

/// Describes an engine in one line: its version and the effect of setting it up.
fn about(engine: &dyn Engine, activation: &Activation, restart: bool) -> String {
    let version = engine.facts().version.as_deref().unwrap_or_default();
    let what = match activation.of() {
        Some((_, Verb::Reload)) if restart => "is reloaded; nothing stops".to_owned(),
        Some((of, Verb::Restart)) if restart => format!("is restarted; {}", of.effect),
        _ => "no restart".to_owned(),
    };
    format!("{version:<10}  {what}")
}

/// The commands to run next, each on its own line so that it can be copied.
fn next_steps(plan: &Plan, host: &Host, common: &Common, screen: Screen) -> String {
    let engines = plan.engines.iter().map(|(e, _)| e.facts().name.as_str());
    let engines: Vec<&str> = engines.collect();
    let tries = [
        ("docker", "docker run --rm --gpus all ubuntu nvidia-smi"),
        (
            "docker-rootless",
            "docker run --rm --runtime nvidia -e NVIDIA_VISIBLE_DEVICES=all ubuntu nvidia-smi",
        ),
        (
            "podman",
            "podman run --rm --device nvidia.com/gpu=all ubuntu nvidia-smi",
        ),
    ];
    // In a directory tree or an image no engine runs.
    let command = tries.iter().find(|(name, _)| engines.contains(name));
    let command = command.filter(|_| host.is_live());
    let mut lines: Vec<(&str, String)> = Vec::new();
    lines.extend(command.map(|(_, command)| ("Try:  ", (*command).to_owned())));
    lines.push((
        "Undo: ",
        match common.root.as_path() {
            root if root == Path::new("/") => "gpusetup undo".to_owned(),
            root => format!("gpusetup undo --root {}", root.display()),
        },
    ));
    lines
        .into_iter()
        .map(|(first, command)| screen.paragraph(first, first.len(), &command))
        .collect()
}
