//! Whether each engine gives containers GPUs: what doctor says first. It is decided by the files of the engine, whoever
//! wrote them; the receipt only says which ways are wanted.

use serde_json::{Value, json};

use crate::doctor::facts::HostFacts;
use crate::doctor::ways::{self, Way, Ways};
use crate::engines::engine::Engine;
use crate::host::answer;
use crate::model::setup_options::Mode;

/// Whether an engine is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetUp {
    /// Every way that is wanted works.
    Whole,
    /// Some ways work, and others that are wanted do not.
    Partly,
    /// No way works.
    Not,
    /// It is not known, for this reason.
    NotKnown(String),
    /// gpusetup sets nothing up in it, for this reason.
    LeftAlone(String),
}

impl SetUp {
    /// Its name in a JSON document.
    fn id(&self) -> &'static str {
        match self {
            Self::Whole => "set-up",
            Self::Partly => "partly",
            Self::Not => "not-set-up",
            Self::NotKnown(_) => "not-known",
            Self::LeftAlone(_) => "left-alone",
        }
    }

    fn why(&self) -> Option<&str> {
        match self {
            Self::NotKnown(why) | Self::LeftAlone(why) => Some(why),
            Self::Whole | Self::Partly | Self::Not => None,
        }
    }
}

/// An engine, and the ways in which its containers can ask for GPUs.
#[derive(Clone, Debug)]
pub struct EngineState {
    /// The engine's name.
    pub name: String,
    /// Its version, if it is known.
    pub version: Option<String>,
    /// Whether it is set up.
    pub set_up: SetUp,
    /// The ways that this engine has, working or not.
    pub ways: Vec<Way>,
    /// Whether somebody will miss GPUs in it: not in a containerd that only serves Docker, and not if a run was told to
    /// leave all its ways out.
    pub is_missed: bool,
}

impl EngineState {
    /// The state of an engine.
    pub fn of(look: &HostFacts, engine: &dyn Engine) -> Self {
        let facts = engine.facts();
        let mode = look.was_wanted(engine).map(|wanted| wanted.mode);
        let mut is_missed = is_used(look, &facts.name);
        let (ways, set_up) = match ways::of(look, engine) {
            Ways::These(ways) => {
                let wanted = wanted(&ways, mode);
                is_missed &= !wanted.is_empty();
                let set_up = decide(&ways, &wanted);
                (ways, set_up)
            }
            Ways::NotKnown(why) => {
                let why = answer::why_not_known(look.host, &why);
                (Vec::new(), SetUp::NotKnown(why))
            }
            Ways::LeftAlone(why) => (Vec::new(), SetUp::LeftAlone(why)),
        };
        Self {
            name: facts.name.clone(),
            version: facts.version.clone(),
            set_up,
            ways,
            is_missed,
        }
    }

    /// Its state in words: `set up: --gpus, --runtime nvidia`.
    pub fn words(&self, has_driver: bool) -> String {
        let works = self.ways.iter().filter(|way| way.lacks.is_none());
        let works: Vec<&str> = works.map(|way| way.how.as_str()).collect();
        let works = works.join(", ");
        let lacks = self.ways.iter().filter_map(|way| {
            let lacks = way.lacks.as_ref()?;
            Some(format!("{} ({lacks})", way.how))
        });
        let lacks: Vec<String> = lacks.collect();
        match &self.set_up {
            SetUp::Whole if has_driver => format!("set up: {works}"),
            SetUp::Whole => format!("set up, but no driver is loaded: {works}"),
            SetUp::Partly => format!("partly set up: {works}; not {}", lacks.join(", ")),
            SetUp::Not => "not set up".to_owned(),
            SetUp::NotKnown(why) => why.clone(),
            SetUp::LeftAlone(why) => format!("left alone: {why}"),
        }
    }

    /// It as a part of the JSON document.
    pub fn document(&self) -> Value {
        let ways = self.ways.iter();
        let ways: Vec<Value> = ways
            .map(|way| json!({"how": way.how, "works": way.lacks.is_none(), "lacks": way.lacks}))
            .collect();
        json!({
            "name": self.name,
            "version": self.version,
            "state": self.set_up.id(),
            "why": self.set_up.why(),
            "ways": ways,
        })
    }
}

/// The ways that the options of an earlier run ask for. Without such a run CDI is an extra where there are other ways.
fn wanted(ways: &[Way], mode: Option<Mode>) -> Vec<&Way> {
    let has_other = ways.iter().any(|way| !way.is_cdi);
    let is_wanted = |way: &&Way| match mode {
        Some(Mode::Both) => true,
        Some(Mode::Cdi) => way.is_cdi,
        Some(Mode::Runtime) => !way.is_cdi,
        None => !way.is_cdi || !has_other,
    };
    ways.iter().filter(is_wanted).collect()
}

fn decide(ways: &[Way], wanted: &[&Way]) -> SetUp {
    let works = |way: &Way| way.lacks.is_none();
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

    fn way(how: &str, is_cdi: bool, works: bool) -> Way {
        Way {
            how: how.into(),
            is_cdi,
            lacks: (!works).then(|| "why".into()),
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
        let state = |ways: &[Way], mode| decide(ways, &wanted(ways, mode));
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
