//! The errors of this crate: why a container does not get its GPUs. They state facts; which command
//! helps is said by the programs that show them.
//!
//! Text that comes from a container is an [`Excerpt`], and a message from another layer is a
//! [`Message`]. Both are limited in length, so an image with megabytes in a variable cannot
//! fill a log.

use std::fmt;
use std::path::{Path, PathBuf};

pub use cdi::{Excerpt, Message};

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The container asks for a device that this host does not have.
    #[error("no GPU {asked:?} on this host; there are {there}")]
    NoSuchDevice {
        /// The device as requested.
        asked: Excerpt,
        /// The devices of this host.
        there: String,
    },
    /// The requested GPU is not given to anybody, since the kernel and NVML did not say the same of it.
    #[error(
        "GPU {index} ({pci}), which {asked:?} names, was left out when the GPUs were last described: {why}; nobody gets another GPU in its place"
    )]
    Disputed {
        /// The device as requested.
        asked: Excerpt,
        /// Its index.
        index: u32,
        /// Its PCI address.
        pci: String,
        /// What the sources say.
        why: String,
    },
    /// A CDI spec is older than a change of the GPUs.
    #[error(
        "GPU {index} ({pci}) is not what it was when the CDI spec was made: {now}; the spec has to be made anew"
    )]
    OtherGpu {
        /// The index in the spec.
        index: u32,
        /// The PCI address in the spec.
        pci: String,
        /// What was found.
        now: String,
    },
    /// The requested UUID prefix matches more than one device.
    #[error("{asked:?} fits several devices: {fits}; give more of the UUID")]
    Ambiguous {
        /// The prefix as requested.
        asked: Excerpt,
        /// The devices that it matches.
        fits: String,
    },
    /// No driver is loaded.
    #[error("no NVIDIA driver is loaded on this host")]
    NoDriver,
    /// A word is not a driver capability.
    #[error(
        "NVIDIA_DRIVER_CAPABILITIES: {0:?} is none of compute, compat32, graphics, utility, video, display, ngx, all"
    )]
    Capability(Excerpt),
    /// A word is not an IMEX channel.
    #[error(
        "NVIDIA_IMEX_CHANNELS: {0:?} is no channel; one is a number from 0 to 1048575, channelN, or all"
    )]
    ImexChannel(Excerpt),
    /// The container asks for an IMEX channel that this host does not have.
    #[error("no IMEX channel {id} on this host; there are {there}")]
    NoSuchChannel {
        /// The channel as requested.
        id: u32,
        /// The channels of this host.
        there: String,
    },
    /// The container asks for something besides GPUs that this host does not have.
    #[error("no devices for {asked} on this host; there are some for {there}")]
    NoSuchFeature {
        /// The feature's word in the variable or CDI class.
        asked: &'static str,
        /// The features of this host.
        there: String,
    },
    /// The container asks to partition GPUs or to monitor their slices, which cannot be granted.
    #[error("{name}: {fault}")]
    MigControl {
        /// The variable.
        name: &'static str,
        /// What is wrong.
        #[source]
        fault: MigControlFault,
    },
    /// A requirement of the image is not met. The text before the parenthesis is that of
    /// libnvidia-container (`src/cli/dsl.c`), because tools search for it.
    #[error(
        "requirement error: unsatisfied condition: {condition}{} ({has}; NVIDIA_DISABLE_REQUIRE=1 starts it all the same)",
        advice(condition)
    )]
    Requirement {
        /// The first of the image's alternative conditions.
        condition: Excerpt,
        /// What the host has.
        has: String,
    },
    /// A requirement of the image cannot be parsed.
    #[error(
        "requirement error: invalid expression: {0:?}; a condition looks like cuda>=12.4 and is one of cuda, driver, arch, brand"
    )]
    BadRequirement(Excerpt),
    /// A container requests a CDI device of a kind that the policy does not let it name.
    #[error("{by} asks for {asked}. {who}, so it may name only {}{rule}", allowed.join(", "))]
    KindNotAllowed {
        /// The device.
        asked: Excerpt,
        /// The variable, mount or annotation with the request.
        by: String,
        /// Who other than the engine's user may have made the request.
        who: &'static str,
        /// The kinds that may be named.
        allowed: &'static [&'static str],
        /// How the policy would have to be changed.
        rule: KindRule,
    },
    /// config.toml is not TOML.
    #[error("{path}: {source}")]
    PolicySyntax {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        source: Box<toml::de::Error>,
    },
    /// config.toml cannot be used.
    #[error("{path}: {why}")]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A CDI spec was requested for a kind of device that this host does not have.
    #[error("nothing to describe: this host has no device for mode {0}")]
    NothingToDescribe(String),
    /// None of the requested naming strategies has a name for a device.
    #[error("device {0} has no name: its UUID is not known here")]
    NameStrategy(String),
    /// Discovery of the host failed.
    #[error(transparent)]
    Discover(#[from] gpu_host::Error),
    /// A CDI spec or an OCI config cannot be used.
    #[error(transparent)]
    Cdi(#[from] cdi::Error),
    /// An inventory cannot be read or written as JSON.
    #[error("{path}: {source}")]
    Inventory {
        /// The file.
        path: PathBuf,
        /// The error of the parser or the writer.
        source: serde_json::Error,
    },
    /// An operation on a file of the host failed.
    #[error("{}: {source}", Excerpt::of(path))]
    Host {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// An operation in the container's root file system failed.
    #[error("in the container: {}: {what}: {source}", Excerpt::of(path))]
    Rootfs {
        /// Path in the container.
        path: PathBuf,
        /// The operation.
        what: &'static str,
        /// The error of the system.
        source: std::io::Error,
    },
    /// One of our hooks is started with a flag that it does not know.
    #[error("gpu-container-hook: unknown flag {0:?}; was the CDI spec made by another version?")]
    HookFlag(Excerpt),
    /// The container's state or config does not follow the OCI specification.
    #[error("{0}")]
    State(Message),
    /// A system call on the container's namespaces or cgroup failed.
    #[error("{what}: {source}")]
    System {
        /// The operation.
        what: Message,
        /// The error of the system.
        source: std::io::Error,
    },
}

/// Why a request to partition or monitor GPUs cannot be granted.
#[derive(Debug, thiserror::Error)]
pub enum MigControlFault {
    /// The driver has no node for it.
    #[error("the driver of this host has no such node below /dev/nvidia-caps")]
    NoNode,
    /// The control is for whole GPUs, but the container gets single slices.
    #[error("goes with whole GPUs in NVIDIA_VISIBLE_DEVICES, not with single slices")]
    SingleSlices,
    /// Only `all` can be requested.
    #[error("{0:?} cannot be asked for, only all")]
    NotAll(Excerpt),
}

/// The change to the policy that lets a container name a kind of device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KindRule {
    /// The kind is only for privileged containers, and only if this key lists it.
    Privileged {
        /// The key.
        key: &'static str,
    },
    /// The kind is allowed if this key lists it.
    Listed {
        /// The key.
        key: &'static str,
        /// The kinds that it lists now, and this one, with commas.
        kinds: Box<str>,
    },
}

impl fmt::Display for KindRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Privileged { key } => write!(
                f,
                ". It has every node of the driver, and is for privileged containers (CAP_SYS_ADMIN) where {key} lists it"
            ),
            Self::Listed { key, .. } => write!(f, ", and what {key} lists"),
        }
    }
}

/// The advice that libnvidia-container adds if the host's CUDA version is too old.
fn advice(condition: &Excerpt) -> &'static str {
    if condition.starts_with("cuda>=") {
        ", please update your driver to a newer version, or use an earlier cuda container"
    } else {
        ""
    }
}

impl Error {
    /// Makes an [`Error::Host`] of an error on this file.
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
