//! Carrying a plan out: all of it, or nothing.

use std::time::Duration;

use crate::change::Change;
use crate::error::Error;
use crate::host::Host;
use crate::plan::Plan;
use crate::receipt::{JOURNAL, RECEIPT, Record};
use crate::report::Progress;
use crate::signals::Held;
use crate::{verify, write};

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
    carry_out(host, plan, how, signals, progress, true)
}

/// The same for a plan that takes a receipt's changes back.
pub fn apply_without_receipt(
    host: &Host,
    plan: &Plan,
    how: How,
    signals: &Held,
    progress: &Progress,
) -> Result<(), Error> {
    carry_out(host, plan, how, signals, progress, false).map(drop)
}

fn carry_out(
    host: &Host,
    plan: &Plan,
    how: How,
    signals: &Held,
    progress: &Progress,
    keep: bool,
) -> Result<Vec<verify::Verified>, Error> {
    let mut record = Record {
        schema: 1,
        version: env!("CARGO_PKG_VERSION").into(),
        changes: plan.changes.clone(),
        directories: Vec::new(),
        units: if how.restart {
            plan.units()
        } else {
            Vec::new()
        },
    };
    let mut done = Done::default();
    let result = steps(host, plan, how, signals, progress, &mut record, &mut done)
        .and_then(|verified| {
            if keep {
                keep_receipt(host, &record).map(|()| verified)
            } else {
                Ok(verified)
            }
        })
        .and_then(|verified| write::remove(host, JOURNAL.as_ref()).map(|()| verified));
    let Err(cause) = result else { return result };
    progress.failed(&cause.to_string());
    match put_back(host, &record, &done, progress) {
        left if left.is_empty() => Err(cause),
        left => Err(Error::NotPutBack {
            cause: Box::new(cause),
            left,
        }),
    }
}

/// How far a run got.
#[derive(Default)]
struct Done {
    written: usize,
    restarted: Vec<String>,
    reloaded: bool,
}

fn steps(
    host: &Host,
    plan: &Plan,
    how: How,
    signals: &Held,
    progress: &Progress,
    record: &mut Record,
    done: &mut Done,
) -> Result<Vec<verify::Verified>, Error> {
    for change in &plan.changes {
        still_as_planned(host, change)?;
    }
    record.store(host, JOURNAL)?;
    for change in &plan.changes {
        signals.check()?;
        if let Some(after) = &change.after {
            record
                .directories
                .extend(write::write(host, &change.path, after, change.mode)?);
        } else {
            write::remove(host, &change.path)?;
        }
        done.written += 1;
    }
    progress.done(&format!("wrote {} files", done.written));
    for (engine, activation) in &plan.engines {
        if activation.restart.is_some() {
            engine.check(host)?;
            progress.done(&format!(
                "{} accepts its configuration",
                engine.facts().name
            ));
        }
    }
    if how.restart {
        restart(host, plan, signals, progress, done)?;
    }
    let verified = if how.verify {
        verify_all(host, plan, signals, progress)?
    } else {
        Vec::new()
    };
    Ok(verified)
}

fn keep_receipt(host: &Host, record: &Record) -> Result<(), Error> {
    let mut receipt = Record::load(host, RECEIPT)?.unwrap_or_else(|| Record {
        schema: 1,
        ..Record::default()
    });
    receipt.version.clone_from(&record.version);
    receipt.add(record.clone());
    receipt.store(host, RECEIPT)
}

fn still_as_planned(host: &Host, change: &Change) -> Result<(), Error> {
    if host.text(&change.path)? == change.before {
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
    done: &mut Done,
) -> Result<(), Error> {
    if plan.engines.iter().any(|(_, a)| a.daemon_reload) {
        daemon_reload(host)?;
        done.reloaded = true;
    }
    for (engine, activation) in &plan.engines {
        let Some(unit) = &activation.restart else {
            continue;
        };
        signals.check()?;
        done.restarted.push(unit.clone());
        restart_unit(host, unit)?;
        engine.health(host)?;
        progress.done(&format!("{} restarted", engine.facts().name));
    }
    Ok(())
}

fn verify_all(
    host: &Host,
    plan: &Plan,
    signals: &Held,
    progress: &Progress,
) -> Result<Vec<verify::Verified>, Error> {
    signals.check()?;
    let names: Vec<String> = plan
        .engines
        .iter()
        .map(|(e, _)| e.facts().name.clone())
        .collect();
    let verified = verify::run(host, &names, plan.gpus, progress)?;
    if let Some(bad) = verified.iter().find(|v| !v.ok) {
        let what = format!("{} ({}): {}", bad.engine, bad.how, bad.detail);
        return Err(Error::failed(
            what,
            "`gpusetup install --no-verify` leaves this check out",
        ));
    }
    Ok(verified)
}

/// Undoes what was done; tells what could not be.
fn put_back(host: &Host, record: &Record, done: &Done, progress: &Progress) -> Vec<String> {
    let mut left = Vec::new();
    for change in record.changes.iter().take(done.written).rev() {
        let result = match &change.before {
            Some(before) => write::write(host, &change.path, before, change.mode).map(drop),
            None => write::remove(host, &change.path),
        };
        match result {
            Ok(()) => progress.back(&format!("put back {}", change.path.display())),
            Err(e) => left.push(format!("put back {}: {e}", change.path.display())),
        }
    }
    write::remove_dirs(host, &record.directories);
    if done.reloaded
        && let Err(e) = daemon_reload(host)
    {
        left.push(format!("systemctl daemon-reload: {e}"));
    }
    for unit in &done.restarted {
        match restart_unit(host, unit) {
            Ok(()) => progress.back(&format!("restarted {unit}")),
            Err(e) => left.push(format!("systemctl restart {unit}: {e}")),
        }
    }
    if left.is_empty()
        && let Err(e) = Record::delete(host, JOURNAL)
    {
        left.push(format!("remove {JOURNAL}: {e}"));
    }
    left
}

/// A run that did not end, put back: what the journal names and still has our text.
pub fn recover(host: &Host, progress: &Progress) -> Result<bool, Error> {
    let Some(journal) = Record::load(host, JOURNAL)? else {
        return Ok(false);
    };
    progress.back("an earlier run did not end; putting back what it did");
    for change in journal.changes.iter().rev() {
        if host.text(&change.path)? != change.after {
            continue;
        }
        match &change.before {
            Some(before) => drop(write::write(host, &change.path, before, change.mode)?),
            None => write::remove(host, &change.path)?,
        }
    }
    if host.is_live() && !journal.units.is_empty() {
        daemon_reload(host)?;
        for unit in &journal.units {
            restart_unit(host, unit)?;
        }
    }
    write::remove(host, JOURNAL.as_ref())?;
    Ok(true)
}

/// `systemctl daemon-reload`.
pub fn daemon_reload(host: &Host) -> Result<(), Error> {
    systemctl(host, &["systemctl", "daemon-reload"])
}

/// `systemctl restart UNIT`, also where restarts came too fast for systemd's limit.
pub fn restart_unit(host: &Host, unit: &str) -> Result<(), Error> {
    // The limit counts our restarts as crashes; a unit that never failed has nothing to reset.
    let _ = host.run(
        &["systemctl", "reset-failed", unit],
        Duration::from_secs(10),
    );
    systemctl(host, &["systemctl", "restart", unit]).map_err(|e| {
        let argv = [
            "journalctl",
            "-u",
            unit,
            "-n",
            "40",
            "-o",
            "cat",
            "--no-pager",
        ];
        let log = host
            .run(&argv, Duration::from_secs(10))
            .map(|o| o.stdout)
            .unwrap_or_default();
        let said = log
            .lines()
            .rfind(|l| l.contains("fail") || l.contains("error") || l.contains("unable"));
        match said {
            Some(line) => Error::failed(format!("{unit} did not come back: {}", line.trim()), ""),
            None => e,
        }
    })
}

fn systemctl(host: &Host, argv: &[&str]) -> Result<(), Error> {
    let out = host.run(argv, Duration::from_secs(120))?;
    if out.ok() {
        return Ok(());
    }
    Err(Error::failed(
        format!("{}: {}", argv.join(" "), out.last_line()),
        "",
    ))
}
