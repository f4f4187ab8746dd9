//! Whether an engine gives containers GPUs, and by which ways: what doctor says first.

use serde_json::{Value, json};

/// A way of asking for GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuWay {
    /// How containers ask: `--gpus`, `runtime nvidia`.
    pub how: String,
    /// Whether it is by CDI.
    pub is_cdi: bool,
    /// Why it does not work; `None` if it does.
    pub lacks: Option<String>,
    /// Whom it is for, if the host's policy does not let every container ask so.
    pub only: Option<&'static str>,
}

impl GpuWay {
    /// A way that is not by CDI.
    pub fn new(how: impl Into<String>, lacks: Option<String>) -> Self {
        Self {
            how: how.into(),
            is_cdi: false,
            lacks,
            only: None,
        }
    }

    /// A way by CDI.
    pub fn by_cdi(how: &str, lacks: Option<String>) -> Self {
        Self {
            is_cdi: true,
            ..Self::new(how, lacks)
        }
    }
}

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
    pub ways: Vec<GpuWay>,
    /// Why what its files say does not hold now: `it does not run`; `None` if it holds, or if nobody can tell.
    pub not_in_effect: Option<String>,
    /// Whether somebody will miss GPUs in it: not in a containerd that only serves Docker, and not if a run was told to
    /// leave all its ways out.
    pub is_missed: bool,
}

impl EngineState {
    /// Its state in words: `set up: --gpus, --runtime nvidia`.
    pub fn words(&self, has_driver: bool) -> String {
        let works = self.ways.iter().filter(|way| way.lacks.is_none());
        let works: Vec<String> = works
            .map(|way| match way.only {
                Some(only) => format!("{} ({only})", way.how),
                None => way.how.clone(),
            })
            .collect();
        let works = works.join(", ");
        let lacks = self.ways.iter().filter_map(|way| {
            let lacks = way.lacks.as_ref()?;
            Some(format!("{} ({lacks})", way.how))
        });
        let lacks: Vec<String> = lacks.collect();
        let but = match &self.not_in_effect {
            Some(why) => format!(", but {why}"),
            None => String::new(),
        };
        match &self.set_up {
            SetUp::Whole if has_driver => format!("set up{but}: {works}"),
            SetUp::Whole => format!("set up, but no driver is loaded: {works}"),
            SetUp::Partly => format!("partly set up{but}: {works}; not {}", lacks.join(", ")),
            SetUp::Not => "not set up".to_owned(),
            SetUp::NotKnown(why) => why.clone(),
            SetUp::LeftAlone(why) => format!("left alone: {why}"),
        }
    }

    /// It as a part of the JSON document.
    pub fn document(&self) -> Value {
        let ways = self.ways.iter();
        let ways: Vec<Value> = ways
            .map(|way| json!({"how": way.how, "works": way.lacks.is_none(), "lacks": way.lacks, "only": way.only}))
            .collect();
        json!({
            "name": self.name,
            "version": self.version,
            "state": self.set_up.id(),
            "why": self.set_up.why(),
            "not_in_effect": self.not_in_effect,
            "ways": ways,
        })
    }
}
