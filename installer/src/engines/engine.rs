//! What a container engine is for gpusetup: one trait, and the values it speaks in.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::engines::activation::Activation;
use crate::error::Error;
use crate::host::Host;
use crate::model::change::Change;
use crate::model::setup_options::SetupOptions;

/// Whether an engine is ours to set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Management {
    /// We edit its configuration, or it reads our CDI spec by itself.
    #[serde(rename = "ours")]
    Managed,
    /// It cannot be set up from here, or by editing files.
    #[serde(rename = "not-ours")]
    Unmanaged {
        /// Why.
        why: String,
        /// What the user does instead.
        instead: String,
    },
}

/// The state of one that reads our CDI spec by itself, before there is one.
pub const NEEDS_SPEC: &str = "uses CDI, needs a spec";

/// What was found of an engine.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    /// `docker`, `containerd`, `podman`: the word for `--engine`.
    pub name: String,
    /// Whether it is ours to set up.
    #[serde(rename = "standing")]
    pub management: Management,
    /// Version, where it can be told without starting anything.
    pub version: Option<String>,
    /// Whether its service runs; `None` for an engine without a daemon, or in a `--root` tree.
    pub running: Option<bool>,
    /// The file the engine reads.
    pub config: Option<PathBuf>,
    /// Whether GPUs are set up already, wholly as an earlier run was asked to or, where there was
    /// none, as `SetupOptions` by default.
    pub configured: bool,
    /// What of an earlier run's does not stand any more, or not as it would be written now. An
    /// engine that was set up is either this or configured.
    pub outdated: Vec<PathBuf>,
    /// One-line remarks for the user: `uses CDI, needs a spec`.
    pub notes: Vec<String>,
}

impl Facts {
    /// Nothing has been set up in it yet.
    pub fn is_new(&self) -> bool {
        !self.configured && self.outdated.is_empty()
    }
}

/// How the built-in image runs in an engine: command lines, as values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// Ends and removes containers that a run of ours may have left; they may fail.
    pub leftovers: Vec<Vec<String>>,
    /// Loads the image from its archive.
    pub load: Vec<String>,
    /// Containers to run.
    pub cases: Vec<Case>,
    /// Take the image away again; the last ones may fail.
    pub unload: Vec<Vec<String>>,
}

/// One container to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// How it asks: `--gpus all`.
    pub how: String,
    /// The command line. The probe's standard input is ours, and its last word
    /// [`image::AGAIN`](crate::engines::probe_image::AGAIN).
    pub argv: Vec<String>,
    /// Whether it gets GPUs.
    pub gets: bool,
}

impl Case {
    /// The container that shall see no GPU.
    pub const PLAIN: &str = "asking for nothing";
}

/// A command line from its words.
pub fn argv(parts: &[&[&str]]) -> Vec<String> {
    parts.concat().into_iter().map(str::to_owned).collect()
}

/// One container engine of this host. What has a default is for engines with a configuration
/// and a daemon; one that only reads the CDI spec needs none of it.
pub trait Engine: Send + Sync {
    /// What was found.
    fn facts(&self) -> &Facts;

    /// The same, for what is found out later.
    fn facts_mut(&mut self) -> &mut Facts;

    /// Whether it is ours to set up.
    fn is_ours(&self) -> bool {
        self.facts().management == Management::Managed
    }

    /// The changes wanted, in order; empty when everything is as wanted.
    /// Refuses with a reason where the config cannot be edited safely.
    fn changes(&self, _host: &Host, _wanted: &SetupOptions) -> Result<Vec<Change>, Error> {
        Ok(Vec::new())
    }

    /// What follows from what the user wants, and should be known before it is done.
    fn consequences(&self, _host: &Host, _wanted: &SetupOptions) -> Vec<String> {
        Vec::new()
    }

    /// Whether it is an engine of the user who runs gpusetup, not of the system.
    fn is_of_user(&self) -> bool {
        false
    }

    /// Whether what we set up reaches its containers: a client that reads no CDI spec gets
    /// nothing of it.
    fn is_reached(&self) -> bool {
        true
    }

    /// What keeps its containers from GPUs and is not ours to change, each with what to do.
    fn warnings(&self, _host: &Host) -> Vec<String> {
        Vec::new()
    }

    /// Whether a file is one that this engine's changes touch.
    fn owns(&self, _path: &Path) -> bool {
        false
    }

    /// Reads its files once more: they were written since it was found, or put back. What it says of them from here on is
    /// of that reading, in a check, an answer of its health and a probe alike.
    fn read_again(&mut self, _host: &Host) {}

    /// The text of a file as it was last read, so that nobody reads it a second time; `None` where it reads no such file.
    fn text_of(&self, _path: &Path) -> Option<&str> {
        None
    }

    /// What must happen after `changes` (or their reversal) were written.
    fn activation(&self, _host: &Host, _changes: &[Change]) -> Activation {
        Activation::default()
    }

    /// Containers, running or stopped, that could not start again without what we set up:
    /// `web (--runtime nvidia)`. Empty in a directory tree.
    fn dependent_containers(&self, _host: &Host) -> Vec<String> {
        Vec::new()
    }

    /// Containers that a restart stops now, where the plan was of those.
    fn stopping(&self, _host: &Host, planned: &[String]) -> Vec<String> {
        planned.to_vec()
    }

    /// Starts again what a restart of ours has stopped and the engine did not bring back.
    fn start_again(&self, _host: &Host, _stopped: &[String]) -> Result<(), Error> {
        Ok(())
    }

    /// What it keeps in memory after a reload put it back, in words; `None` where that is nothing.
    fn stale_after_reload(&self, _host: &Host) -> Option<String> {
        None
    }

    /// Waits a moment for what a restart of another engine has cut off.
    fn wait_ready(&self, _host: &Host) {}

    /// How the built-in image in that archive runs here; `None` where nothing can be run.
    fn probe(&self, _host: &Host, _archive: &Path) -> Option<Probe> {
        None
    }

    /// Runs the engine's own checker over its config as it now is on disk.
    /// False where nothing was run: the engine has none, or this is a directory tree.
    fn check(&self, _host: &Host) -> Result<bool, Error> {
        Ok(false)
    }

    /// Whether the engine answers, after a restart; an error says what it says.
    fn health(&self, _host: &Host) -> Result<(), Error> {
        Ok(())
    }
}

/// Engines of a host.
pub type Engines = Vec<Box<dyn Engine>>;

/// `26.1.5+dfsg1` is (26, 1); what cannot be read is (0, 0), as old as can be.
pub fn major_minor(version: &str) -> (u32, u32) {
    // Debian's epoch: `5:26.1.5`.
    let version = version.rsplit_once(':').map_or(version, |(_, v)| v);
    let mut numbers = version
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
