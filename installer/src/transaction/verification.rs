//! Verifies the engines of a run, and says which container is a reason for a rollback.

use crate::engines::activation::Activation;
use crate::engines::down;
use crate::engines::engine::Engine;
use crate::error::Error;
use crate::error::engine_fault::EngineFault;
use crate::terminal::context::RunContext;
use crate::transaction::plan::Plan;
use crate::transaction::states::{RunState, States};
use crate::verify::{self, Unverified};

/// Runs containers in the engines of a plan. Fails with the first engine in which one does not see
/// what it should.
pub fn verify_all(
    context: &RunContext,
    plan: &Plan,
    states: &mut States,
) -> Result<verify::Outcome, Error> {
    let &RunContext {
        signals, progress, ..
    } = context;
    signals.ensure_none()?;
    // One that this run does not start is not started by its verification either; and one that somebody has to restart
    // does not use the files yet.
    let stopped = |(e, a): &&(Box<dyn Engine>, Activation)| match a {
        Activation::AtStart(of) => Some(of.effect.clone()),
        _ => down::why(context.host, &**e).filter(|_| a.of().is_none()),
    };
    let runs = plan.engines.iter().filter(|one| stopped(one).is_none());
    let engines = runs.map(|(e, _)| &**e);
    let wanted = verify::Expectation {
        gpus: plan.gpus,
        reload: true,
    };
    let mut outcome = verify::run(context, engines, wanted)?;
    for one in &plan.engines {
        if let Some(why) = stopped(&one) {
            outcome.not_verified.push(Unverified {
                engine: one.0.facts().name.clone(),
                how: String::new(),
                why,
            });
        }
    }
    let verified = &outcome.verified;
    for (engine, _) in &plan.engines {
        let name = &engine.facts().name;
        let mut of_engine = verified.iter().filter(|v| v.engine == *name);
        if of_engine.all(|v| v.ok) {
            states.reach(name, RunState::Verified);
        }
    }
    if let Some(bad) = verify::dead(verified) {
        let detail = bad.detail.clone();
        return Err(Error::engine(
            &bad.engine,
            EngineFault::NoContainer { detail },
        ));
    }
    if let Some(bad) = verified.iter().find(|v| !v.ok) {
        let (how, detail) = (bad.how.clone(), bad.detail.clone());
        return Err(Error::engine(
            &bad.engine,
            EngineFault::NoGpu { how, detail },
        ));
    }
    // This is no reason for a rollback: containers would lose their GPUs with the old configuration too.
    for v in verified {
        if let Some(trouble) = &v.driver_trouble {
            progress.warn(&format!("{} ({}): {trouble}", v.engine, v.how));
        }
    }
    for lost in verified.iter().filter(|v| v.loss().is_some()) {
        progress.warn(&format!(
            "{} ({}): containers lose their GPUs when systemd reloads",
            lost.engine, lost.how
        ));
    }
    Ok(outcome)
}

/// Engines that go on with what they have read, since their service does not run them.
pub fn not_restarted(plan: &Plan) -> Vec<Unverified> {
    let engines = plan.engines.iter().filter_map(|(engine, activation)| {
        let Activation::AtStart(of) = activation else {
            return None;
        };
        (engine.facts().daemon.runs() == Some(true)).then(|| Unverified {
            engine: engine.facts().name.clone(),
            how: String::new(),
            why: format!("it goes on with what it has read, for {}", of.effect),
        })
    });
    engines.collect()
}
