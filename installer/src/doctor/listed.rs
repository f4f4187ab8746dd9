//! Which of the problems that a host has are listed beside the state of its engines. A check looks at the host, whatever
//! gpusetup remembers of it; so on a host that nobody has set up, most of what a setup brings is missing. That is one
//! problem, and the checks are for whoever asks about a message.

use std::path::Path;

use gpu_inject::generate::SPEC_PATH;

use crate::doctor::engine_state::SetUp;
use crate::doctor::engine_states;
use crate::doctor::facts::HostFacts;

/// Whether that problem is listed by itself.
pub fn is_listed(look: &HostFacts, id: &str) -> bool {
    match id {
        // If no way to GPUs works, the state of the engine says it all.
        "docker-no-hook" => !engine_states::named(look, "docker")
            .is_some_and(|state| state.set_up == SetUp::Not && !was_set_up(look, "docker")),
        // Nobody need use each way: only what a setup has brought is missing.
        "docker-runtime-unknown" => was_set_up(look, "docker"),
        "cri-runtime-unknown" => !look.lost().is_empty(),
        "cdi-missing" => look.has_written(Path::new(SPEC_PATH)),
        _ => true,
    }
}

fn was_set_up(look: &HostFacts, name: &str) -> bool {
    let engine = look.engine(name);
    engine.is_some_and(|engine| look.was_wanted(engine).is_some())
}
