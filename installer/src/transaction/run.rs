//! Carrying a plan out: all of it, or nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use crate::error::Error;
use crate::host::service::daemon_reload;
use crate::host::signals::Held;
use crate::host::{Host, limits, threads};
use crate::model::change::{Change, FileKind, Side};
use crate::terminal::progress::{self, Progress};
use crate::transaction::journal::{self, Begun, Commit, Journal};
use crate::transaction::plan::Plan;
use crate::transaction::receipt::{JOURNAL, Record};
use crate::transaction::{change_io, preflight};
use crate::{engines, verify};

/// What a run shall do besides writing.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Restart the engines that need it.
    pub restart: bool,
    /// Run a container in each engine.
    pub verify: bool,
}

/// Carries the plan out and keeps a receipt; on any failure everything is put back and the
/// error says why.
pub fn apply(
    host: &Host,
    plan: &Plan,
    how: How,
    signals: &Held,
    progress: &Progress,
) -> Result<Vec<verify::Verified>, Error> {
    let earlier = Record::load(host)?.unwrap_or_default();
    carry_out(host, plan, &earlier, how, signals, progress, |journal| {
        let mut receipt = earlier.clone();
        receipt.add(Record {
            version: env!("CARGO_PKG_VERSION").into(),
            changes: journal.changes.clone(),
            directories: journal.directories.clone(),
            attributes: journal.attributes.clone(),
            services: plan.services(),
            asked: plan.asked(),
            ..Record::default()
        });
        receipt.note_time(journal.changes.iter().map(|c| &c.path));
        Commit {
            receipt: Some(receipt),
            directories: Vec::new(),
        }
    })
}

/// Keeps in the receipt what a plan without changes was asked for; nothing where there is none.
pub fn note(host: &Host, plan: &Plan) -> Result<(), Error> {
    let Some(mut receipt) = Record::load(host)? else {
        return Ok(());
    };
    let was = receipt.asked.clone();
    receipt.asked.extend(plan.asked());
    if receipt.asked == was {
        return Ok(());
    }
    receipt.store(host)
}

/// The same for a plan that takes a receipt's changes back: no receipt stands after it.
pub fn undo(
    host: &Host,
    plan: &Plan,
    receipt: &Record,
    how: How,
    signals: &Held,
    progress: &Progress,
) -> Result<(), Error> {
    carry_out(host, plan, receipt, how, signals, progress, |_| Commit {
        receipt: None,
        directories: receipt.directories.clone(),
    })
    .map(drop)
}

/// `wrote 2 files, removed 12`
fn counted(changes: &[Change]) -> String {
    let removed = changes.iter().filter(|c| c.after.is_none()).count();
    let files = |n: usize| if n == 1 { "file" } else { "files" };
    match (changes.len() - removed, removed) {
        (0, removed) => format!("removed {removed} {}", files(removed)),
        (wrote, 0) => format!("wrote {wrote} {}", files(wrote)),
        (wrote, removed) => format!("wrote {wrote} {}, removed {removed}", files(wrote)),
    }
}

fn carry_out(
    host: &Host,
    plan: &Plan,
    receipt: &Record,
    how: How,
    signals: &Held,
    progress: &Progress,
    commit: impl FnOnce(&Journal) -> Commit,
) -> Result<Vec<verify::Verified>, Error> {
    if how.restart {
        plan.names_what_stops()?;
    }
    let mut journal = Journal::new(host, &plan.changes, receipt)?;
    // Before that there is nothing of ours to put back, though files may look as we want them:
    // another run's.
    let mut begun = false;
    let result =
        steps(host, plan, how, signals, progress, &mut journal, &mut begun).and_then(|verified| {
            let commit = commit(&journal);
            journal.commit = Some(commit.clone());
            if let Err(e) = journal.store(host) {
                // It can be in its place and only its directory not synced. What stands there is
                // what `recover` would go by, so that decides.
                let stands = Journal::load(host).ok().flatten();
                if stands.is_none_or(|j| j.commit.is_none()) {
                    return Err(e);
                }
            }
            Ok((verified, commit))
        });
    match result {
        Ok((verified, commit)) => match commit.finish(host) {
            Ok(()) => {
                limits::end();
                Ok(verified)
            }
            Err(cause) => Err(Error::NotPutBack {
                cause: Box::new(cause),
                left: vec![
                    "everything was done, but not noted down: run `gpusetup recover`".into(),
                ],
            }),
        },
        Err(cause) if !begun => Err(cause),
        Err(cause) => {
            match cause {
                Error::Interrupted => progress.warn("interrupted: putting everything back"),
                _ => progress.failed(&cause.to_string()),
            }
            match put_back(host, plan, &journal, progress) {
                left if left.is_empty() => {
                    limits::end();
                    Err(Error::PutBack(Box::new(cause)))
                }
                left => Err(Error::NotPutBack {
                    cause: Box::new(cause),
                    left,
                }),
            }
        }
    }
}

fn steps(
    host: &Host,
    plan: &Plan,
    how: How,
    signals: &Held,
    progress: &Progress,
    journal: &mut Journal,
    begun: &mut bool,
) -> Result<Vec<verify::Verified>, Error> {
    for change in &plan.changes {
        still_as_planned(host, change)?;
        preflight::is_free(host, change, journal.attributes.contains_key(&change.path))?;
    }
    // What was looked at for these, too.
    host.was_seen_whole()?;
    limits::ensure_memory_to_write(journal.text_length())?;
    limits::begin();
    *begun = true;
    journal.store(host)?;
    for change in &plan.changes {
        signals.check()?;
        // Once more: time has passed since the first.
        still_as_planned(host, change)?;
        journal.make(host, change)?;
    }
    progress.done(&counted(&plan.changes));
    check_all(host, plan, progress)?;
    if how.restart {
        restart(host, plan, signals, progress, journal)?;
    }
    if how.verify {
        return verify_all(host, plan, signals, progress);
    }
    Ok(Vec::new())
}

/// The engines' own checkers, side by side: each takes as long as its daemon's start.
fn check_all(host: &Host, plan: &Plan, progress: &Progress) -> Result<(), Error> {
    let changed = plan.engines.iter().filter(|(_, a)| a.service.is_some());
    let checked: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = changed
            .map(|(engine, _)| {
                let check = threads::begin(scope, move || engine.check(host));
                (engine, check)
            })
            .collect();
        let ended = running.into_iter();
        ended.map(|(engine, check)| (engine, check.end())).collect()
    });
    for (engine, checked) in checked {
        if checked? {
            progress.done(&format!(
                "{} accepts its configuration",
                engine.facts().name
            ));
        }
    }
    Ok(())
}

fn still_as_planned(host: &Host, change: &Change) -> Result<(), Error> {
    if change_io::current(host, change)? == change.before {
        return Ok(());
    }
    Err(Error::Config {
        path: change.path.clone(),
        why: "was changed by somebody else meanwhile".into(),
        fix: "run this again".into(),
    })
}

fn restart(
    host: &Host,
    plan: &Plan,
    signals: &Held,
    progress: &Progress,
    journal: &mut Journal,
) -> Result<(), Error> {
    // Noted down before each: whoever finds the journal restarts no more than has begun.
    journal.units = plan.reloads();
    if !journal.units.is_empty() {
        journal.store(host)?;
        daemon_reload(host, journal.units.iter())?;
    }
    for (engine, activation) in &plan.engines {
        let Some(service) = &activation.service else {
            continue;
        };
        signals.check()?;
        let name = &engine.facts().name;
        let started = Instant::now();
        // Some of the plan's may have ended since, and ones that ended by themselves stay so.
        let stops = if activation.reload {
            Vec::new()
        } else {
            engine.stopping(host, &activation.stops)
        };
        journal.begun.push(Begun {
            engine: name.clone(),
            service: service.clone(),
            reload: activation.reload,
            stops: stops.clone(),
        });
        journal.store(host)?;
        if activation.reload {
            progress.doing(&format!("reloading {name}"));
            service.reload(host)?;
        } else {
            progress.doing(&format!("restarting {name}"));
            service.restart(host)?;
        }
        engine.health(host)?;
        let what = if activation.reload {
            "reloaded"
        } else {
            "restarted"
        };
        progress.done(&format!("{name} {what}{}", progress::taken(started)));
        if stops.is_empty() {
            continue;
        }
        progress.doing(&format!("starting the containers of {name} again"));
        match engine.start_again(host, &stops) {
            Ok(()) => progress.done(&format!("{name}: {}", up(stops.len()))),
            // Not for that is all put back: it would stop the others once more.
            Err(e) => progress.warn(&e.to_string()),
        }
    }
    Ok(())
}

fn up(containers: usize) -> String {
    match containers {
        1 => "1 container up".into(),
        n => format!("{n} containers up"),
    }
}

fn verify_all(
    host: &Host,
    plan: &Plan,
    signals: &Held,
    progress: &Progress,
) -> Result<Vec<verify::Verified>, Error> {
    signals.check()?;
    let engines = plan.engines.iter().map(|(e, _)| &**e);
    let verified = verify::run(host, engines, plan.gpus, true, signals, progress)?;
    if let Some(bad) = verify::dead(&verified) {
        return Err(Error::failed(
            format!(
                "{} runs no container here, with a GPU or without: {}",
                bad.engine, bad.detail
            ),
            format!(
                "mend {0} first, or leave the check out: gpusetup install --no-verify",
                bad.engine
            ),
        ));
    }
    if let Some(bad) = verified.iter().find(|v| !v.ok) {
        let what = format!("{} ({}): {}", bad.engine, bad.how, bad.detail);
        return Err(Error::failed(
            what,
            "`gpusetup install --no-verify` leaves this check out",
        ));
    }
    // Not put back for that: it would be no better before.
    for lost in verified.iter().filter(|v| v.lost().is_some()) {
        progress.warn(&format!(
            "{} ({}): containers lose their GPUs when systemd reloads",
            lost.engine, lost.how
        ));
    }
    Ok(verified)
}

/// A line for each file; one for all links, of which there are hundreds where there are many GPUs.
fn put_files_back(host: &Host, journal: &Journal, progress: &Progress) -> Vec<String> {
    let mut links = 0;
    let left = journal.put_back(host, |change| {
        if change.kind == FileKind::Link {
            links += 1;
        } else {
            progress.back(&format!("put back {}", change.path.display()));
        }
    });
    if links > 0 {
        progress.back(&format!("took back {links} links in /dev/char"));
    }
    left
}

/// Undoes what was done; tells what could not be. Then the journal stays, for `recover`.
fn put_back(host: &Host, plan: &Plan, journal: &Journal, progress: &Progress) -> Vec<String> {
    let mut left = put_files_back(host, journal, progress);
    if let Err(e) = daemon_reload(host, journal.units.iter()) {
        left.push(format!("systemctl daemon-reload: {e}"));
    }
    for (engine, activation) in &plan.engines {
        let Some(service) = &activation.service else {
            continue;
        };
        let Some(begun) = journal.begun.iter().find(|b| b.service == *service) else {
            continue;
        };
        let name = &engine.facts().name;
        progress.doing(&format!("restarting {name}"));
        let again = if activation.reload {
            service.reload(host)
        } else {
            service.restart(host)
        };
        let back = again
            .and_then(|()| engine.health(host))
            .and_then(|()| engine.start_again(host, &begun.stops));
        match back {
            Ok(()) if activation.reload => {
                progress.back(&format!("reloaded {name}"));
                if let Some(kept) = engine.keeps(host) {
                    progress.warn(&kept);
                }
            }
            Ok(()) if begun.stops.is_empty() => progress.back(&format!("restarted {name}")),
            Ok(()) => {
                let up = up(begun.stops.len());
                progress.back(&format!("restarted {name}: running, {up}"));
            }
            Err(e) => left.push(format!("{}: {e}", service.restart_command().join(" "))),
        }
    }
    if left.is_empty()
        && let Err(e) = journal::delete(host)
    {
        left.push(format!("{}: {e}", host.state(JOURNAL).display()));
    }
    left
}

/// A run that died and was ended.
pub struct Recovered {
    /// Files of which its journal had no checksum.
    pub unchecked: BTreeSet<PathBuf>,
}

/// Ends a run that died before one that needs the receipt: where that cannot be used, nothing is
/// put back either.
pub fn recover_before_run(host: &Host, progress: &Progress) -> Result<Option<Recovered>, Error> {
    let journal = Journal::load(host).ok().flatten();
    // A run that was done brings its own.
    if journal.is_none_or(|j| j.commit.is_none()) {
        Record::load(host)?;
    }
    recover(host, progress)
}

/// Ends a run that died: put back, or, where all was done and checked, noted down. `None` where
/// there was none.
pub fn recover(host: &Host, progress: &Progress) -> Result<Option<Recovered>, Error> {
    recover_from_journal(host, progress).map_err(|cause| match cause {
        whole @ Error::NotPutBack { .. } => whole,
        cause => {
            let first = cause.fix().unwrap_or_else(|| "mend that".into());
            Error::NotPutBack {
                cause: Box::new(cause),
                left: vec![first, "then run `gpusetup recover`".into()],
            }
        }
    })
}

fn recover_from_journal(host: &Host, progress: &Progress) -> Result<Option<Recovered>, Error> {
    let Some(journal) = Journal::load(host)? else {
        // One that died before its journal was there leaves no more than its temporary.
        journal::delete(host)?;
        return Ok(None);
    };
    if let Some(remark) = journal.remark() {
        progress.warn(&remark);
    }
    limits::begin();
    limits::ensure_memory_to_write(journal.text_length())?;
    let recovered = Recovered {
        unchecked: journal.unchecked.clone(),
    };
    if let Some(commit) = &journal.commit {
        progress.done("an earlier run was done but did not end; noting down what it did");
        commit.finish(host)?;
        limits::end();
        return Ok(Some(recovered));
    }
    let back = journal.changes.iter();
    limits::ensure_file_size(back.filter_map(|c| c.text(Side::Before)))?;
    progress.back("an earlier run did not end; putting back what it did");
    let mut left = put_files_back(host, &journal, progress);
    if host.is_live() {
        if let Err(e) = daemon_reload(host, journal.units.iter()) {
            left.push(format!("systemctl daemon-reload: {e}"));
        }
        let engines = if journal.begun.is_empty() {
            Vec::new()
        } else {
            engines::detect(host)
        };
        for begun in &journal.begun {
            let engine = engines.iter().find(|e| e.facts().name == begun.engine);
            let again = begun.again(host).and_then(|said| {
                if let Some(engine) = engine {
                    engine.health(host)?;
                    engine.start_again(host, &begun.stops)?;
                }
                Ok(said)
            });
            match again {
                Ok(said) => progress.back(&format!("{said} {}", begun.engine)),
                Err(e) => left.push(format!(
                    "{}: {e}",
                    begun.service.restart_command().join(" ")
                )),
            }
        }
    }
    if left.is_empty() {
        journal::delete(host)?;
        limits::end();
        return Ok(Some(recovered));
    }
    Err(Error::NotPutBack {
        cause: Box::new(Error::failed(
            "an earlier run could not be put back whole",
            "",
        )),
        left,
    })
}
