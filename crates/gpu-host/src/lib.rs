//! Read-only discovery of this host: GPUs, driver files, distribution, kernel, cgroups.
//!
//! This crate changes nothing on the host. Every read goes through a [`Root`], so the same
//! code reads a test's directory tree, a driver root such as `/run/nvidia/driver` and the
//! real host. [`discover()`] collects everything that containers can be given in one
//! serializable [`Inventory`].
#![deny(unsafe_code)]

// Structures of the kernel, of ELF and of ld.so.cache are read as a little-endian machine has them, and NVIDIA has no
// driver for any other.
#[cfg(target_endian = "big")]
compile_error!(
    "gpusetup is for little-endian machines alone: NVIDIA has no driver for a big-endian one"
);

mod discovery;
mod driver;
mod formats;
#[doc(hidden)]
pub mod fuzzing;
pub mod inventory;
mod os;
pub mod root;

pub use discovery::freshness::freshness;
pub use discovery::kernel_list;
pub use discovery::mismatch::{Mismatch, mismatch, other_driver_root};
pub use discovery::nvml_reading::{
    NvmlAnswer, NvmlAsker, NvmlGpu, NvmlReading, NvmlSlice, NvmlUse,
};
pub use discovery::options::{Error, Options};
pub use discovery::{discover, nvml_library, other_vendors, source};
#[cfg(feature = "nvml")]
pub use discovery::{nvlink, nvml};
pub use driver::files::installed_version;
pub use driver::version::loaded_version;
pub use formats::ldcache;
pub use inventory::{
    Capabilities, Capability, ControlNode, DeviceNode, DisputedGpu, Driver, DriverFile, Feature,
    FeatureFiles, FileKind, Freshness, Gpu, GpuKey, ImexChannel, Inventory, Link, MigControl,
    MigDevice, Need, PciAddress, Source,
};
pub use os::{cgroup, distro, init, kernel, packages, platform, programs};
pub use root::{Root, glob};
