//! Runs the engines' own checkers on the configuration before a run changes it, so that an old fault is not blamed on
//! the run.

use crate::error::Error;
use crate::error::engine_fault::EngineFault;
use crate::host::{Host, threads};
use crate::transaction::plan::Plan;

/// Fails if an engine whose files change refuses its current configuration. A checker that cannot be run does not
/// count.
pub fn ensure_accepted(host: &Host, plan: &Plan) -> Result<(), Error> {
    let changed = plan.engines.iter().filter(|(_, a)| a.service().is_some());
    let checked: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = changed
            .map(|(engine, _)| threads::begin(scope, move || engine.check(host)))
            .collect();
        running.into_iter().map(threads::Work::end).collect()
    });
    for checked in checked {
        if let Err(Error::Engine {
            engine,
            fault: EngineFault::Refuses { said },
        }) = checked
        {
            return Err(Error::engine(&engine, EngineFault::RefusedBefore { said }));
        }
    }
    Ok(())
}
