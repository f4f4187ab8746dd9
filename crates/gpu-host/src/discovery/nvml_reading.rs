//! What NVML says of the GPUs, as data: a program may ask it in a process of its own, since a driver that
//! hangs would never give an answer back.

use serde::{Deserialize, Serialize};

use crate::inventory::PciAddress;

/// The answer of NVML.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NvmlReading {
    /// Highest CUDA version that the driver supports (major, minor).
    pub cuda: Option<(u32, u32)>,
    /// The GPUs that it described, in its index order.
    pub gpus: Vec<NvmlGpu>,
    /// What it said of those that it counts and cannot describe, such as one that fell off the bus.
    pub faults: Vec<String>,
}

/// A GPU that NVML described.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NvmlGpu {
    /// NVML's index. It counts the GPUs that NVML could open, so it is not the same GPU's for ever.
    pub index: u32,
    /// The N of `/dev/nvidiaN`.
    pub minor: u32,
    /// Its PCI address.
    pub pci: PciAddress,
    /// `GPU-xxxxxxxx-…`.
    pub uuid: String,
    /// Product name.
    pub name: Option<String>,
    /// Product line (`Tesla`, `GeForce`, …).
    pub brand: Option<String>,
    /// Compute capability (major, minor).
    pub compute_capability: Option<(u32, u32)>,
    /// Whether MIG is switched on.
    pub mig_enabled: bool,
    /// Its MIG devices.
    pub slices: Vec<NvmlSlice>,
}

/// A MIG device that NVML described.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NvmlSlice {
    /// MIG index on its GPU.
    pub index: u32,
    /// GPU instance id.
    pub gpu_instance: u32,
    /// Compute instance id.
    pub compute_instance: u32,
    /// `MIG-xxxxxxxx-…`.
    pub uuid: String,
    /// The profile, for instance `1g.10gb`.
    pub profile: Option<String>,
}

/// What discovery does with NVML.
#[derive(Clone, Debug, Default)]
pub enum NvmlUse {
    /// GPUs come from /proc alone.
    No,
    /// Asks it in this process, on the running host and in a build with the feature. Waits for as long as it takes.
    #[default]
    Here,
    /// It was asked elsewhere, and this is its answer.
    Answered(Box<NvmlReading>),
}
