//! Decides for each engine whether it is set up: by the engine's files, whoever wrote them. The receipt only says which
//! ways are wanted.

use crate::doctor::engine_state::{EngineState, GpuWay, SetUp};
use crate::doctor::facts::HostFacts;
use crate::doctor::ways::{self, EngineWays};
use crate::engines::down;
use crate::engines::engine::Engine;
use crate::host::answer::Answer;
use crate::host::not_known;
use crate::model::host_state::Whose;
use crate::model::setup_options::Mode;
use crate::setup::host_state;

/// The state of each engine.
pub fn all<'a>(look: &'a HostFacts) -> &'a [EngineState] {
    look.engine_states(|| {
        let engines = look.engines().iter();
        engines.map(|e| of(look, &**e)).collect()
    })
}

/// The state of the engine with that name.
pub fn named<'a>(look: &'a HostFacts, name: &str) -> Option<&'a EngineState> {
    all(look).iter().find(|state| state.name == name)
}

fn of(look: &HostFacts, engine: &dyn Engine) -> EngineState {
    let facts = engine.facts();
    let mode = look.was_wanted(engine).map(|wanted| wanted.mode);
    let mut is_missed = is_used(look, &facts.name);
    let (ways, set_up) = match ways::of(look, engine) {
        EngineWays::These(ways) => {
            let wanted = wanted(&ways, mode);
            is_missed &= !wanted.is_empty();
            let set_up = decide(&ways, &wanted);
            (ways, set_up)
        }
        EngineWays::NotKnown(why) => {
            let why = not_known::why_not_known(look.host, &why);
            (Vec::new(), SetUp::NotKnown(why))
        }
        EngineWays::LeftAlone(why) => (Vec::new(), SetUp::LeftAlone(why)),
    };
    let is_set_up = matches!(set_up, SetUp::Whole | SetUp::Partly);
    EngineState {
        not_in_effect: is_set_up.then(|| not_in_effect(look, engine)).flatten(),
        name: facts.name.clone(),
        version: facts.version.clone(),
        set_up,
        ways,
        is_missed,
    }
}

/// Why an engine does not work as its files say.
fn not_in_effect(look: &HostFacts, engine: &dyn Engine) -> Option<String> {
    if let Some(why) = down::why(look.host, engine) {
        return (!down::is_on_demand(look.host, engine)).then_some(why);
    }
    match host_state::due(look.host, engine, look.receipt()) {
        Answer::Known(due) if due.whose == Whose::Ours => {
            Some(format!("not in effect until it is restarted ({})", due.why))
        }
        _ => None,
    }
}

/// The ways that the options of an earlier run ask for. Without such a run CDI is an extra where there are other ways.
fn wanted(ways: &[GpuWay], mode: Option<Mode>) -> Vec<&GpuWay> {
    let has_other = ways.iter().any(|way| !way.is_cdi);
    let is_wanted = |way: &&GpuWay| match mode {
        Some(Mode::Both) => true,
        Some(Mode::Cdi) => way.is_cdi,
        Some(Mode::Runtime) => !way.is_cdi,
        None => !way.is_cdi || !has_other,
    };
    ways.iter().filter(is_wanted).collect()
}

fn decide(ways: &[GpuWay], wanted: &[&GpuWay]) -> SetUp {
    let works = |way: &GpuWay| way.lacks.is_none();
    if !ways.iter().any(works) {
        SetUp::Not
    } else if wanted.iter().all(|way| works(way)) {
        SetUp::Whole
    } else {
        SetUp::Partly
    }
}

/// Whether people start containers with that engine.
fn is_used(look: &HostFacts, name: &str) -> bool {
    match name {
        "containerd" => {
            let has_docker = look.engines().iter().any(|e| {
                let name = &e.facts().name;
                name == "docker" || name == "docker-rootless"
            });
            !has_docker || crate::engines::containerd::has_kubelet(look.host)
        }
        _ => look
            .engine(name)
            .is_some_and(|e| e.facts().config.is_some() || name == "podman"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(how: &str, is_cdi: bool, works: bool) -> GpuWay {
        GpuWay {
            how: how.into(),
            is_cdi,
            lacks: (!works).then(|| "why".into()),
            only: None,
        }
    }

    #[test]
    fn the_wanted_ways_decide() {
        let docker = |gpus, runtime, cdi| {
            [
                way("--gpus", false, gpus),
                way("--runtime", false, runtime),
                way("--device", true, cdi),
            ]
        };
        let state = |ways: &[GpuWay], mode| decide(ways, &wanted(ways, mode));
        let both = Some(Mode::Both);
        assert_eq!(state(&docker(true, true, true), both), SetUp::Whole);
        assert_eq!(state(&docker(true, true, false), both), SetUp::Partly);
        assert_eq!(state(&docker(true, true, false), None), SetUp::Whole);
        assert_eq!(state(&docker(false, true, true), None), SetUp::Partly);
        assert_eq!(state(&docker(false, false, true), None), SetUp::Partly);
        let cdi = docker(false, false, true);
        assert_eq!(state(&cdi, Some(Mode::Cdi)), SetUp::Whole);
        assert_eq!(state(&docker(false, false, false), both), SetUp::Not);
        let podman = [way("--device", true, true)];
        assert_eq!(state(&podman, None), SetUp::Whole);
        assert!(wanted(&podman, Some(Mode::Runtime)).is_empty());
    }
}
