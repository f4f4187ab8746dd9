//! What the measuring process and its hosts say to each other: a line of JSON each way.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::case::{Below, Gpus, Image, Other, Way};

/// What a host is to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HostOptions {
    pub gpus: Gpus,
    pub below: Below,
    /// `images/` and `bin/` are there.
    pub work: PathBuf,
    /// The directory of `bin/` with the files of gpusetup, as installed.
    pub tree: String,
    /// A config.json to begin with, of an engine's; None for what `runc spec` makes.
    pub config: Option<PathBuf>,
    pub others: Vec<Other>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Whether a container gets what it should.
    Prove(Image, Way),
    /// A whole life; milliseconds.
    Life(Image, Way),
    /// The same under strace.
    Calls(Image, Way),
    /// Peak memory of shim and hooks.
    Peak(Image, Way),
    /// Instructions of shim and hooks.
    Instructions(Image, Way),
    /// The hook with the loader's cache of that image and nothing around it; milliseconds.
    CacheByHook(Image),
    /// The real ldconfig on that image; milliseconds.
    CacheByLdconfig(Image),
    /// `gpusetup cdi generate`, without NVML or with the fake one; milliseconds.
    Generate { nvml: bool },
    /// The same of another's.
    OtherGenerate(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Life {
    /// create, start, wait and delete.
    pub whole: f64,
    /// create alone.
    pub create: f64,
    /// Processor time of the whole life: of runtime, shim, hooks and container.
    pub cpu: f64,
}

/// Of a whole life, without the low-level runtime and the container's own program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Calls {
    /// System calls of shim, hooks and what they start.
    pub ours: u64,
    /// System calls of all.
    pub all: u64,
    /// Programs started, by exec; a shim is three: at create, start and delete.
    pub programs: u64,
    /// Processes that hooks and shim start, and the hooks themselves.
    pub processes: u64,
}

/// Of each program that runs besides the low-level runtime; None where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShimAndHooks {
    pub shim: Option<u64>,
    /// The greatest peak of the hooks; the sum of their instructions.
    pub hooks: Option<u64>,
    /// How many there are.
    pub hook_count: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    Milliseconds(f64),
    Life(Life),
    Calls(Calls),
    ShimAndHooks(ShimAndHooks),
    Failed(String),
}
