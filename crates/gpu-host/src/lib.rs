//! What is on this host: GPUs, driver files, distribution, kernel, cgroups.
//!
//! This crate answers questions and changes nothing. Everything is read below a
//! [`Root`], so a test's directory tree, a driver root such as
//! `/run/nvidia/driver` and the real host are the same code. The answer to
//! "what can containers here be given?" is one serializable [`Inventory`],
//! made by [`discover()`].
#![deny(unsafe_code)]

mod discovery;
mod driver;
mod formats;
#[doc(hidden)]
pub mod fuzzing;
pub mod inventory;
mod os;
pub mod root;

pub use discovery::freshness::freshness;
pub use discovery::mismatch::{Mismatch, mismatch};
#[cfg(feature = "nvml")]
pub use discovery::nvlink;
pub use discovery::options::{Error, Options};
pub use discovery::{discover, other_vendors, source};
pub use driver::files::installed_version;
pub use driver::version::loaded_version;
pub use formats::ldcache;
pub use inventory::{
    Capabilities, Capability, ControlNode, DeviceNode, Driver, DriverFile, Feature, FeatureFiles,
    FileKind, Freshness, Gpu, ImexChannel, Inventory, Link, MigControl, MigDevice, Need,
    PciAddress, Source,
};
pub use os::{cgroup, distro, init, kernel, packages, platform, programs};
pub use root::{Root, glob};
