//! The interface to a container engine: the trait [`Engine`], and the types that it uses.

use std::any::Any;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::engines::activation::Activation;
use crate::engines::dependent::DependentContainer;
use crate::error::Error;
use crate::error::still_down::StillDown;
use crate::host::Host;
use crate::host::answer::Answer;
use crate::host::daemon_process::DaemonProcess;
use crate::host::service::Service;
use crate::model::change::Change;
use crate::model::setup_options::SetupOptions;

/// Whether we can set up an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Management {
    /// We edit its configuration, or it reads our CDI spec by itself.
    #[serde(rename = "ours")]
    Managed,
    /// It cannot be set up from here, or not by editing files.
    #[serde(rename = "not-ours")]
    Unmanaged {
        /// The reason.
        why: String,
        /// What the user can do instead.
        instead: String,
    },
}

/// The note for an engine that reads our CDI spec by itself, while there is no spec yet.
pub const NEEDS_SPEC: &str = "uses CDI, needs a spec";

/// The facts that were detected about an engine.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its name: `docker`, `containerd`, `podman`.
    pub name: String,
    /// Whether we can set it up.
    pub management: Management,
    /// The version, if it can be determined without starting anything.
    pub version: Option<String>,
    /// Whether its service runs.
    pub daemon: DaemonState,
    /// The configuration file that the engine reads.
    pub config: Option<PathBuf>,
    /// One-line notes for the user: `uses CDI, needs a spec`.
    pub notes: Vec<String>,
}

/// Whether the service of an engine runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DaemonState {
    /// Not determined: an engine without a daemon, or in a directory tree.
    Unasked,
    /// It runs.
    Runs,
    /// It does not run.
    Stopped,
    /// It is not known, for this reason.
    Unknown(String),
}

impl DaemonState {
    /// The state according to the daemon's answer on a running host.
    pub fn of(host: &Host, ask: impl FnOnce() -> Answer<()>) -> Self {
        if !host.is_live() {
            return Self::Unasked;
        }
        match ask() {
            Answer::Known(()) => Self::Runs,
            Answer::None => Self::Stopped,
            Answer::Unknown(why) => Self::Unknown(why),
        }
    }

    /// Whether it runs, if that is known.
    pub fn runs(&self) -> Option<bool> {
        match self {
            Self::Runs => Some(true),
            Self::Stopped => Some(false),
            Self::Unasked | Self::Unknown(_) => None,
        }
    }
}

/// The command lines that run the built-in image in an engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// Commands that stop and remove containers that an earlier run may have left; they may fail.
    pub leftovers: Vec<Vec<String>>,
    /// The commands that load the image from its archive.
    pub load: Vec<Vec<String>>,
    /// Containers to run.
    pub cases: Vec<Case>,
    /// Commands that remove the image again; the last ones may fail.
    pub unload: Vec<Vec<String>>,
    /// Why no container can be run here. The cases are then not verified.
    pub obstacle: Option<String>,
    /// Whether containers may never have run here, because nothing uses this way to run them. If even the container
    /// that requests nothing does not run, the cases are not verified, which is no failure.
    pub is_unused: bool,
}

/// One container to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// How it requests GPUs: `--gpus all`.
    pub how: String,
    /// The command line. We hold the probe's standard input, and its last word is
    /// [`image::AGAIN`](crate::engines::probe_image::AGAIN).
    pub argv: Vec<String>,
    /// What it should get.
    pub gets: Gets,
}

impl Case {
    /// How the container that should see no GPU requests GPUs.
    pub const PLAIN: &str = "asking for nothing";
    /// How a container asks that the host's policy lets have nothing.
    pub const VARIABLE_ALONE: &str = "by NVIDIA_VISIBLE_DEVICES alone";
}

/// What a container should get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gets {
    /// All GPUs.
    Gpus,
    /// Nothing, as it asks for nothing.
    Nothing,
    /// Nothing, although it asks: the host's policy does not let it.
    NothingByPolicy,
}

/// Builds a command line from its words.
pub fn argv(parts: &[&[&str]]) -> Vec<String> {
    parts.concat().into_iter().map(str::to_owned).collect()
}

/// One container engine of this host. Methods with a default are for engines with a configuration
/// and a daemon; an engine that only reads the CDI spec needs none of them.
pub trait Engine: Any + Send + Sync {
    /// The facts that were detected about it.
    fn facts(&self) -> &Facts;

    /// Whether we can set it up.
    fn is_ours(&self) -> bool {
        self.facts().management == Management::Managed
    }

    /// The changes that are needed, in order; empty if everything is as wanted. Fails, with the reason, if the
    /// configuration cannot be edited safely.
    fn changes(&self, _host: &Host, _wanted: &SetupOptions) -> Result<Vec<Change>, Error> {
        Ok(Vec::new())
    }

    /// Consequences of the user's options that the user should know before the run.
    fn consequences(&self, _host: &Host, _wanted: &SetupOptions) -> Vec<String> {
        Vec::new()
    }

    /// Whether it is an engine of the user who runs gpusetup, not of the system.
    fn is_of_user(&self) -> bool {
        false
    }

    /// Whether our setup reaches its containers: it does not reach those of a client that reads no CDI spec.
    fn is_reached(&self) -> bool {
        true
    }

    /// Problems that keep its containers from GPUs and that we cannot fix, each with what to do.
    fn warnings(&self, _host: &Host) -> Vec<String> {
        Vec::new()
    }

    /// Whether a file is one that this engine's changes touch.
    fn owns(&self, _path: &Path) -> bool {
        false
    }

    /// Reads its files again, because they were written or rolled back since it was detected. Afterwards its checks,
    /// health and probe use the new content.
    fn read_again(&mut self, _host: &Host) {}

    /// The text of a file as it was last read, so that it need not be read again; `None` if the engine reads no such
    /// file.
    fn text_of(&self, _path: &Path) -> Option<&str> {
        None
    }

    /// The files that it actually reads: configuration files that flags have moved, and their imports.
    fn reads(&self) -> Vec<PathBuf> {
        self.facts().config.iter().cloned().collect()
    }

    /// The file that the engine generates from others at each start. Changes to it are lost at the next start.
    fn rendered(&self) -> Option<&Path> {
        None
    }

    /// What must happen after `changes` were written or rolled back.
    fn activation(&self, _host: &Host, _changes: &[Change]) -> Activation {
        Activation::default()
    }

    /// How what gpusetup has set up, as the files are now, is not in effect in its running daemon; `Known(None)` if it
    /// is. `None` for a daemon that cannot tell: then the times of its start and of its files decide.
    fn not_in_effect(&self, _host: &Host, _wanted: &SetupOptions) -> Answer<Option<String>> {
        Answer::None
    }

    /// What of gpusetup's set-up its running daemon still has although its files, as they are now, have it no more;
    /// `Known(None)` if it has nothing. `None` for a daemon that cannot tell.
    fn still_in_effect(&self, _host: &Host) -> Answer<Option<String>> {
        Answer::None
    }

    /// Whether its daemon, or the program that starts it, reads that file without a restart when it changes.
    fn watches(&self, _path: &Path) -> bool {
        false
    }

    /// The service that runs its daemon; `None` for an engine without one.
    fn daemon_service(&self, _host: &Host) -> Option<Service> {
        None
    }

    /// The process of its daemon, if that is known not to be its service's: somebody has started it by hand, or another
    /// unit has.
    fn run_by_another(&self) -> Option<&DaemonProcess> {
        None
    }

    /// Why its service, which does not run, must not be started: another daemon has what it would use.
    fn is_held(&self) -> Option<String> {
        None
    }

    /// Whether no container would notice that its daemon is stopped, as far as can be determined.
    fn is_idle(&self, _host: &Host) -> bool {
        true
    }

    /// Containers, running or stopped, that could not start again without our setup: `web (--runtime nvidia)`. `None`
    /// in a directory tree, and if the engine does not run.
    fn dependent_containers(&self, _host: &Host) -> Answer<Vec<DependentContainer>> {
        Answer::None
    }

    /// The containers that a restart would stop now, given those in the plan.
    fn stopping(&self, _host: &Host, planned: &[String]) -> Vec<String> {
        planned.to_vec()
    }

    /// Those of these running containers that the engine removes as soon as they stop, because they were started so.
    fn removed_on_stop(&self, _host: &Host, _names: &[String]) -> Vec<String> {
        Vec::new()
    }

    /// Starts the containers that our restart stopped and that the engine did not start again by
    /// itself. Returns those that do not run in the end.
    fn start_again(&self, _host: &Host, _stopped: &[String]) -> Vec<StillDown> {
        Vec::new()
    }

    /// A warning about what the engine still has in memory after a rollback by reload; `None` if
    /// there is nothing.
    fn stale_after_reload(&self, _host: &Host) -> Option<String> {
        None
    }

    /// Waits a moment until a connection that another engine's restart has cut is restored.
    fn wait_ready(&self, _host: &Host) {}

    /// The commands that run the built-in image in that archive; `None` if nothing can be run.
    fn probe(&self, _host: &Host, _archive: &Path) -> Option<Probe> {
        None
    }

    /// The commands that run the built-in image in that archive as a pod, through CRI; `None` if this engine runs no
    /// pods.
    fn pods(&self, _host: &Host, _archive: &Path) -> Option<Probe> {
        None
    }

    /// Things that work in a container now but not later, which no test container can show.
    fn caveats(&self, _host: &Host) -> Vec<String> {
        Vec::new()
    }

    /// Whether its containers are to be verified. False for an engine in which nothing is set up.
    fn is_to_be_verified(&self) -> bool {
        true
    }

    /// Runs the engine's own checker on its configuration as it is on disk. Returns false if
    /// nothing was run: the engine has no checker, or this is a directory tree.
    fn check(&self, _host: &Host) -> Result<bool, Error> {
        Ok(false)
    }

    /// Waits after a restart or reload until the engine answers; an error contains its answer.
    fn health(&self, _host: &Host) -> Result<(), Error> {
        Ok(())
    }
}

/// The engines of a host.
pub type Engines = Vec<Box<dyn Engine>>;

/// `26.1.5+dfsg1` is (26, 1). A version that cannot be read is (0, 0), so it counts as very old.
pub fn major_minor(version: &str) -> (u32, u32) {
    // Debian's epoch: `5:26.1.5`.
    let version = version.rsplit_once(':').map_or(version, |(_, v)| v);
    let mut numbers = version
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
