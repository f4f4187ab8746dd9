//! Container engines: one file each, behind one trait.
//!
//! An engine reads, computes and tells; it never writes a file or restarts
//! anything on its own. `apply` does that, with the engine's [`Change`]s.

mod containerd;
mod docker;
mod podman;
mod unit;

use std::path::PathBuf;

use serde::Serialize;

use crate::change::Change;
use crate::error::Error;
use crate::host::Host;

/// What the user wants set up.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// CDI, the runtime, or both.
    pub mode: Mode,
    /// Make our runtime the engine's default.
    pub default_runtime: bool,
    /// Name of the runtime entry; `nvidia` unless told otherwise.
    pub runtime_name: String,
    /// The shim, `/usr/bin/gpu-container-runtime` unless told otherwise.
    pub runtime_path: PathBuf,
    /// The directory with the drop-in names, `/usr/lib/gpu-container/bin`.
    pub names_dir: PathBuf,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            mode: Mode::Both,
            default_runtime: false,
            runtime_name: "nvidia".into(),
            runtime_path: "/usr/bin/gpu-container-runtime".into(),
            names_dir: "/usr/lib/gpu-container/bin".into(),
        }
    }
}

/// How containers get GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The engine applies the CDI spec.
    Cdi,
    /// The engine starts our shim.
    Runtime,
    /// Both, the default.
    Both,
}

/// What was found of an engine.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    /// `docker`, `containerd`, `podman`: the word for `--engine`.
    pub name: String,
    /// Version, where it can be told without starting anything.
    pub version: Option<String>,
    /// Whether its service runs; `None` for an engine without a daemon, or in a `--root` tree.
    pub running: Option<bool>,
    /// The file the engine reads.
    pub config: Option<PathBuf>,
    /// Whether GPUs are set up already, wholly as `Wanted` by default.
    pub configured: bool,
    /// One-line remarks for the user: `uses CDI, needs a spec`.
    pub notes: Vec<String>,
}

/// What must happen for changed files to take effect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Activation {
    /// The systemd unit to restart, if any.
    pub restart: Option<String>,
    /// Unit files changed: `systemctl daemon-reload` first.
    pub daemon_reload: bool,
    /// What the restart stops, in words: `3 running containers stop: web, db, cache (live-restore is off)`.
    pub effect: String,
}

/// One container engine of this host.
pub trait Engine {
    /// What was found.
    fn facts(&self) -> &Facts;

    /// The same, for what is found out later.
    fn facts_mut(&mut self) -> &mut Facts;

    /// The changes wanted, in order; empty when everything is as wanted.
    /// Refuses with a reason where the config cannot be edited safely.
    fn changes(&self, host: &Host, wanted: &Wanted) -> Result<Vec<Change>, Error>;

    /// Whether a file is one that this engine's changes touch.
    fn owns(&self, path: &std::path::Path) -> bool;

    /// What must happen after `changes` (or their reversal) were written.
    fn activation(&self, host: &Host, changes: &[Change]) -> Activation;

    /// Runs the engine's own checker over its config as it now is on disk.
    /// `Ok` where the engine has none.
    fn check(&self, host: &Host) -> Result<(), Error>;

    /// Whether the engine answers, after a restart; an error says what it says.
    fn health(&self, host: &Host) -> Result<(), Error>;
}

/// Every engine of this host, in the order of the plan.
pub fn detect(host: &Host) -> Vec<Box<dyn Engine>> {
    let found: [Option<Box<dyn Engine>>; 3] = [
        docker::Docker::detect(host).map(|e| Box::new(e) as Box<dyn Engine>),
        containerd::Containerd::detect(host).map(|e| Box::new(e) as Box<dyn Engine>),
        podman::Podman::detect(host).map(|e| Box::new(e) as Box<dyn Engine>),
    ];
    found.into_iter().flatten().collect()
}

/// `26.1.5+dfsg1` is (26, 1); what cannot be read is (0, 0), as old as can be.
fn major_minor(version: &str) -> (u32, u32) {
    // Debian's epoch: `5:26.1.5`.
    let version = version.rsplit_once(':').map_or(version, |(_, v)| v);
    let mut numbers = version
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
