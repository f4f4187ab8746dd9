//! Runs the engines' own checkers on the configuration before a run changes it, so that an old fault is not blamed on
//! the run.

use crate::error::Error;
use crate::error::engine_fault::EngineFault;
use crate::host::{Host, threads};
use crate::transaction::plan::Plan;

/// The engines whose files change and that refuse their current configuration, by name. A checker that cannot be run
/// does not count.
pub fn refusing(host: &Host, plan: &Plan) -> Vec<(String, Error)> {
    let changed = plan.engines.iter().filter(|(_, a)| a.service().is_some());
    let checked: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = changed
            .map(|(engine, _)| {
                let check = threads::begin(scope, move || engine.check(host));
                (engine.facts().name.clone(), check)
            })
            .collect();
        let ended = running.into_iter();
        ended.map(|(name, check)| (name, check.end())).collect()
    });
    let refusing = checked
        .into_iter()
        .filter_map(|(name, checked)| match checked {
            // This error's name is that of the program: dockerd.
            Err(Error::Engine {
                engine: program,
                fault: EngineFault::Refuses { said },
            }) => {
                let refused = Error::engine(&program, EngineFault::RefusedBefore { said });
                Some((name, refused))
            }
            _ => None,
        });
    refusing.collect()
}
