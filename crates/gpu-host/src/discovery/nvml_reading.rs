//! What NVML says of the GPUs, as data: a program may ask it in a process of its own, since a driver that
//! hangs would never give an answer back.

use std::ffi::OsStr;
use std::fmt;
use std::sync::Arc;

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

/// What NVML said; `None` where its library cannot be used here.
pub type NvmlAnswer = Result<Option<NvmlReading>, String>;

/// Asks NVML by its library's path.
type Ask = dyn Fn(&OsStr) -> NvmlAnswer + Send + Sync;

/// Somebody who asks NVML for discovery.
#[derive(Clone)]
pub struct NvmlAsker(Arc<Ask>);

impl fmt::Debug for NvmlAsker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NvmlAsker")
    }
}

impl NvmlAsker {
    pub(super) fn ask(&self, library: &OsStr) -> NvmlAnswer {
        self.0(library)
    }
}

/// What discovery does with NVML.
#[derive(Clone, Debug, Default)]
pub enum NvmlUse {
    /// GPUs come from /proc alone.
    No,
    /// Asks it in this process, on the running host and in a build with the feature. Waits for as long as it takes.
    #[default]
    Here,
    /// This one asks.
    By(NvmlAsker),
}

impl NvmlUse {
    /// Has it asked by a function that is given the library's path.
    pub fn by(ask: impl Fn(&OsStr) -> NvmlAnswer + Send + Sync + 'static) -> Self {
        Self::By(NvmlAsker(Arc::new(ask)))
    }
}
