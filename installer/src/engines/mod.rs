//! Container engines: one file each, behind one trait.
//!
//! An engine reads, computes and tells; it never writes a file or restarts
//! anything on its own. `apply` does that, with the engine's [`Change`]s.

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

    /// The changes wanted, in order; empty when everything is as wanted.
    /// Refuses with a reason where the config cannot be edited safely.
    fn changes(&self, host: &Host, wanted: &Wanted) -> Result<Vec<Change>, Error>;

    /// What must happen after `changes` (or their reversal) were written.
    fn activation(&self, host: &Host, changes: &[Change]) -> Activation;

    /// Runs the engine's own checker over its config as it now is on disk.
    /// `Ok` where the engine has none.
    fn check(&self, host: &Host) -> Result<(), Error>;

    /// Whether the engine answers, after a restart; an error says what it says.
    fn health(&self, host: &Host) -> Result<(), Error>;
}
