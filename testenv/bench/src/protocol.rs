//! The protocol between the measuring process and its hosts: a line of JSON in each direction.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::case::{Below, Gpus, Image, Other, Way};

/// The description of a host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HostOptions {
    pub gpus: Gpus,
    pub below: Below,
    /// Directory with `images/` and `bin/`.
    pub work: PathBuf,
    /// The directory in `bin/` with the files of gpusetup, as installed.
    pub tree: String,
    /// A config.json to start with, such as an engine's; None for what `runc spec` makes.
    pub config: Option<PathBuf>,
    pub others: Vec<Other>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Whether a container gets what it should.
    Prove(Image, Way),
    /// A whole life, in milliseconds.
    Life(Image, Way),
    /// A whole life under strace.
    Calls(Image, Way),
    /// Peak memory of the shim and the hooks.
    Peak(Image, Way),
    /// Instructions of the shim and the hooks.
    Instructions(Image, Way),
    /// The hook with the loader's cache of that image, without a container; milliseconds.
    CacheByHook(Image),
    /// The real ldconfig on that image; milliseconds.
    CacheByLdconfig(Image),
    /// `gpusetup cdi generate`, without NVML or with the fake one; milliseconds.
    Generate { nvml: bool },
    /// The same with another vendor's program.
    OtherGenerate(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Life {
    /// The time of create, start, wait and delete.
    pub whole: f64,
    /// The time of create alone.
    pub create: f64,
    /// Processor time of the whole life: of runtime, shim, hooks and container.
    pub cpu: f64,
}

/// Counts of a whole life, without the low-level runtime and the container's own program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Calls {
    /// System calls of shim, hooks and the programs that they start.
    pub ours: u64,
    /// System calls of all programs.
    pub all: u64,
    /// Programs started with exec; a shim counts three times: at create, start and delete.
    pub programs: u64,
    /// Processes that hooks and shim start, and the hooks themselves.
    pub processes: u64,
}

/// Values of the programs that run besides the low-level runtime; None where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShimAndHooks {
    pub shim: Option<u64>,
    /// The greatest peak of the hooks; the sum of their instructions.
    pub hooks: Option<u64>,
    /// How many hooks there are.
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
