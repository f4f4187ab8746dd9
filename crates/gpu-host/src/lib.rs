//! What is on this host: GPUs, driver files, distribution, kernel, cgroups.
//!
//! This crate answers questions and changes nothing. Everything is read below a
//! [`Root`], so a test's directory tree, a driver root such as
//! `/run/nvidia/driver` and the real host are the same code. The answer to
//! "what can containers here be given?" is one serializable [`Inventory`].
#![forbid(unsafe_code)]

pub mod inventory;

pub use inventory::{
    Capabilities, Capability, DeviceNode, Driver, DriverFile, FileKind, Gpu, Inventory, Link,
    MigDevice, PciAddress,
};
