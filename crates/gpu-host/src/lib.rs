//! What is on this host: GPUs, driver files, distribution, kernel, cgroups.
//!
//! This crate answers questions and changes nothing. Everything is read below a
//! [`Root`], so a test's directory tree, a driver root such as
//! `/run/nvidia/driver` and the real host are the same code. The answer to
//! "what can containers here be given?" is one serializable [`Inventory`],
//! made by [`discover()`].
#![deny(unsafe_code)]

pub mod cgroup;
pub mod discover;
pub mod distro;
mod drm;
mod elf;
mod features;
mod files;
mod firmware;
pub mod freshness;
#[doc(hidden)]
pub mod fuzzing;
pub mod glob;
pub mod init;
pub mod inventory;
pub mod kernel;
pub mod ldcache;
mod mig;
pub mod mismatch;
mod nodes;
#[cfg(feature = "nvml")]
pub mod nvlink;
#[cfg(feature = "nvml")]
#[allow(unsafe_code, reason = "two NVML calls that nvml-wrapper lacks")]
mod nvml;
pub mod other_vendors;
pub mod packages;
pub mod platform;
mod procfs;
pub mod programs;
mod reach;
pub mod root;
mod tegra;
mod wsl;

pub use discover::{Options, discover};
pub use freshness::freshness;
pub use inventory::{
    Capabilities, Capability, ControlNode, DeviceNode, Driver, DriverFile, Feature, FeatureFiles,
    FileKind, Freshness, Gpu, ImexChannel, Inventory, Link, MigControl, MigDevice, Need,
    PciAddress, Source,
};
pub use mismatch::{Mismatch, mismatch};
pub use root::Root;
