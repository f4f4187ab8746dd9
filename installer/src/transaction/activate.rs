//! What makes written files take effect: the engines' own checks, then restarts and reloads.

use std::time::Instant;

use crate::error::Error;
use crate::host::service::daemon_reload;
use crate::host::signals::Interrupt;
use crate::host::{Host, threads};
use crate::terminal::progress::{self, Progress};
use crate::transaction::journal::{Journal, StartedRestart};
use crate::transaction::plan::Plan;

/// The engines' own checkers, side by side: each takes as long as its daemon's start.
pub fn check_all(host: &Host, plan: &Plan, progress: &Progress) -> Result<(), Error> {
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

pub fn restart(
    host: &Host,
    plan: &Plan,
    signals: &Interrupt,
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
        journal.begun.push(StartedRestart {
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

pub fn up(containers: usize) -> String {
    match containers {
        1 => "1 container up".into(),
        n => format!("{n} containers up"),
    }
}
