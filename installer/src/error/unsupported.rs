//! Why this host, or an engine of it, cannot be set up, and what to do about it.

use std::path::PathBuf;

use gpu_host::kernel::Way;

use crate::error::invocation::Invocation;

/// The reason.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unsupported {
    /// The distribution cannot be set up by writing files.
    #[error("{why}")]
    Distribution {
        /// The reason.
        why: String,
        /// What to write instead, or where to read more.
        instead: String,
    },
    /// A file on a read-only /usr would have to change.
    #[error("{} would have to change, and /usr is read-only here", path.display())]
    ReadOnlyUsr {
        /// The file.
        path: PathBuf,
        /// What to write instead, or where to read more.
        instead: String,
    },
    /// The kernel is too old for every way into a container.
    #[error("this is Linux {release}, and {} needs {}, with {}", way.name, way.since, way.needs)]
    OldKernel {
        /// The running kernel.
        release: String,
        /// The way.
        way: &'static Way,
    },
    /// No service manager can restart the engines.
    #[error("systemd does not run here, so {} cannot be restarted", services.join(" and "))]
    NoSystemd {
        /// The services to restart.
        services: Vec<String>,
        /// Whether this is WSL, where systemd can be turned on.
        is_wsl: bool,
    },
    /// No driver is installed.
    #[error("no NVIDIA driver is installed")]
    NoDriver,
    /// The driver's kernel module is not loaded.
    #[error("the NVIDIA driver {version} is installed but not loaded")]
    DriverNotLoaded {
        /// The version of its libraries.
        version: String,
    },
    /// There is no engine.
    #[error(
        "no container engine is installed: docker, containerd, podman, CRI-O, k3s and others are looked for"
    )]
    NoEngine {
        /// The command that installs one on this distribution.
        install: Option<String>,
    },
    /// There is no engine of that name.
    #[error("{name} is not installed here; found: {}", listed(found))]
    EngineMissing {
        /// The name.
        name: String,
        /// The engines that were found.
        found: Vec<String>,
    },
    /// The engine belongs to the system, and this user can set up only their own.
    #[error("{engine} is the system's, not this user's")]
    EngineOfSystem {
        /// The engine.
        engine: String,
    },
    /// We cannot set up the engine.
    #[error("{engine}: {why}")]
    Unmanaged {
        /// The engine.
        engine: String,
        /// The reason.
        why: String,
        /// What to do instead.
        instead: String,
    },
    /// A file that all engines share is missing, and this user may not write it.
    #[error("{missing} is not there yet, which only root can make")]
    NotSetUpByRoot {
        /// The file.
        missing: &'static str,
    },
}

impl Unsupported {
    /// What to do about it.
    pub fn fix(&self) -> String {
        use Invocation::{Engines, InstallAsRoot, InstallEngineAsRoot, NoRestart};
        match self {
            Self::Distribution { instead, .. } | Self::Unmanaged { instead, .. } => instead.clone(),
            Self::ReadOnlyUsr { instead, .. } => format!(
                "tell the engine to read a file in /etc, or name others with {Engines}; or {instead}"
            ),
            Self::OldKernel { way, .. } => format!("run {} or later", way.since),
            Self::NoSystemd { is_wsl: true, .. } => format!(
                "put `systemd=true` below `[boot]` in /etc/wsl.conf, then run `wsl --shutdown` in \
                 Windows; or run it with {NoRestart}"
            ),
            Self::NoSystemd { is_wsl: false, .. } => {
                format!("run it with {NoRestart}, then restart the engines yourself")
            }
            Self::NoDriver => "install the driver first; gpusetup does not do that".into(),
            Self::DriverNotLoaded { .. } => "`modprobe nvidia` tells why, or reboot".into(),
            Self::NoEngine { install } => match install {
                None => "install one".into(),
                Some(command) => format!("install one, for instance `{command}`"),
            },
            Self::EngineMissing { .. } => {
                format!("leave it out of {Engines}, or install it first")
            }
            Self::EngineOfSystem { engine } => format!("run `{}`", InstallEngineAsRoot(engine)),
            Self::NotSetUpByRoot { .. } => format!("run `{InstallAsRoot}` first, then this again"),
        }
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    }
}
