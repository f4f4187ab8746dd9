//! What can keep a container from getting its GPUs.
//!
//! What comes from a container is an [`Excerpt`] here, and what is put together by others a
//! [`Message`]: an image that has megabytes in a variable has a line in the answer.

use std::path::{Path, PathBuf};

pub use cdi::{Excerpt, Message};

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The container asks for a device that is not there.
    #[error("no GPU {asked:?} on this host; there are {there}")]
    NoSuchDevice {
        /// As asked for.
        asked: Excerpt,
        /// Those there are.
        there: String,
    },
    /// More than one device has that prefix.
    #[error("{asked:?} fits several devices: {fits}; give more of the UUID")]
    Ambiguous {
        /// As asked for.
        asked: Excerpt,
        /// What it fits.
        fits: String,
    },
    /// No driver is loaded.
    #[error("no NVIDIA driver is loaded on this host; `gpusetup detect` tells what is missing")]
    NoDriver,
    /// A capability that is none.
    #[error(
        "NVIDIA_DRIVER_CAPABILITIES: {0:?} is none of compute, compat32, graphics, utility, video, display, ngx, all"
    )]
    Capability(Excerpt),
    /// An IMEX channel that is none.
    #[error(
        "NVIDIA_IMEX_CHANNELS: {0:?} is no channel; one is a number from 0 to 1048575, channelN, or all"
    )]
    ImexChannel(Excerpt),
    /// An IMEX channel that the host does not have.
    #[error("no IMEX channel {id} on this host; there are {there}")]
    NoSuchChannel {
        /// As asked for.
        id: u32,
        /// Those there are.
        there: String,
    },
    /// The container asks for something besides GPUs that this host does not have.
    #[error("no devices for {asked} on this host; there are some for {there}")]
    NoSuchFeature {
        /// The variable's or CDI class's word.
        asked: &'static str,
        /// What there is.
        there: String,
    },
    /// The container may partition GPUs or watch their slices, and cannot.
    #[error("{name}: {why}")]
    MigControl {
        /// The variable.
        name: &'static str,
        /// What is wrong.
        why: Message,
    },
    /// A requirement of the image is not met. The words up to the bracket are
    /// libnvidia-container's (`src/cli/dsl.c`), which tools look for.
    #[error(
        "requirement error: unsatisfied condition: {condition}{} ({has}; NVIDIA_DISABLE_REQUIRE=1 starts it all the same)",
        advice(condition)
    )]
    Requirement {
        /// The first alternative of what the image says.
        condition: Excerpt,
        /// What the host has.
        has: String,
    },
    /// A requirement that cannot be read.
    #[error(
        "requirement error: invalid expression: {0:?}; a condition looks like cuda>=12.4 and is one of cuda, driver, arch, brand"
    )]
    BadRequirement(Excerpt),
    /// A container itself names a CDI device of a kind that it may not.
    #[error("{by} asks for {asked}. {who}, so it may name {allowed} alone. {way_out}")]
    KindNotAllowed {
        /// The device.
        asked: Excerpt,
        /// What asks for it.
        by: String,
        /// Who else than the engine's user can have said it.
        who: &'static str,
        /// The kinds that may be named.
        allowed: String,
        /// How the device can be had.
        way_out: String,
    },
    /// config.toml cannot be used.
    #[error("{path}: {why}")]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A CDI spec of what the host does not have.
    #[error(
        "nothing to describe: this host has no device for mode {0}; `gpusetup cdi generate --help` tells which nodes each mode needs"
    )]
    NothingToDescribe(String),
    /// No way of naming that was asked for has a name for it.
    #[error("device {0} has no name: its UUID is not known here; add --device-name-strategy index")]
    NameStrategy(String),
    /// Looking at the host failed.
    #[error(transparent)]
    Discover(#[from] gpu_host::Error),
    /// A CDI spec or an OCI config cannot be used.
    #[error(transparent)]
    Cdi(#[from] cdi::Error),
    /// A file of the host.
    #[error("{}: {source}", Excerpt::of(path))]
    Host {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something in the container's root file system.
    #[error("in the container: {}: {what}: {source}", Excerpt::of(path))]
    Rootfs {
        /// Path in the container.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The container's state or spec is not what the OCI specification says.
    #[error("{0}")]
    State(Message),
    /// A system call on the container's namespaces or cgroup.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: Message,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What libnvidia-container adds for a CUDA version that is too old.
fn advice(condition: &Excerpt) -> &'static str {
    if condition.starts_with("cuda>=") {
        ", please update your driver to a newer version, or use an earlier cuda container"
    } else {
        ""
    }
}

impl Error {
    /// What failed, on a file of the host.
    pub fn host(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Host {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn system(what: impl Into<Message>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System {
            what: what.into(),
            source,
        }
    }
}
