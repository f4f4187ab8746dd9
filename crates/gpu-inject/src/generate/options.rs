//! Options for generating a CDI spec: what it describes, and how devices are named.

use std::path::PathBuf;

use gpu_host::{Capabilities, Feature, Gpu, MigDevice};

/// The file in which engines find our spec. It is the one that the vendor's tool writes, because
/// with two specs of one kind in a directory engines refuse the devices of both.
pub const SPEC_PATH: &str = "/var/run/cdi/nvidia.yaml";
/// The path of our hook's program.
pub const HOOK_PATH: &str = "/usr/bin/gpu-container-hook";
/// The CDI kind of our devices.
pub const KIND: &str = "nvidia.com/gpu";

/// What a spec describes. Not to be confused with the policy's mode, which is how GPUs are injected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpecContent {
    /// GPUs and MIG slices, from any [`gpu_host::Source`].
    #[default]
    Gpu,
    /// Every node of the driver, including those for setting up MIG and `NVSwitch`. For containers
    /// that manage the GPUs of a host.
    Management,
    /// A feature besides GPUs.
    Feature(Feature),
    /// IMEX channels.
    Imex,
}

impl SpecContent {
    /// Vendor and class, the same as in nvidia-container-toolkit 1.20 `pkg/nvcdi`.
    pub(super) fn kind(self) -> (&'static str, &'static str) {
        match self {
            Self::Gpu => ("nvidia.com", "gpu"),
            Self::Management => ("management.nvidia.com", "gpu"),
            Self::Feature(feature) => ("nvidia.com", feature.word()),
            Self::Imex => ("nvidia.com", "imex-channel"),
        }
    }
}

/// How a spec is made.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// Path of our hook's program on the host.
    pub hook_path: PathBuf,
    /// The driver capabilities to include. All by default, since a CDI device cannot ask for some.
    pub capabilities: Capabilities,
    /// What to describe.
    pub mode: SpecContent,
    /// The vendor to use instead of the mode's own.
    pub vendor: Option<String>,
    /// The class to use instead of the mode's own.
    pub class: Option<String>,
    /// How GPUs and slices are named. Each strategy adds a device.
    pub names: Vec<NameStrategy>,
    /// Include only these devices, by index, UUID or `gpu:slice`. `None` includes all.
    pub devices: Option<Vec<String>>,
    /// Include the device `all`, which is every device in one.
    pub all: bool,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            hook_path: HOOK_PATH.into(),
            capabilities: Capabilities::ALL,
            mode: SpecContent::Gpu,
            vendor: None,
            class: None,
            names: vec![NameStrategy::Index, NameStrategy::Uuid],
            devices: None,
            all: true,
        }
    }
}

impl GenerateOptions {
    pub(super) fn kind(&self, (vendor, class): (&str, &str)) -> String {
        let vendor = self.vendor.as_deref().unwrap_or(vendor);
        let class = self.class.as_deref().unwrap_or(class);
        format!("{vendor}/{class}")
    }
}

/// How GPUs and slices are named (nvidia-container-toolkit 1.20 `pkg/nvcdi/namer.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameStrategy {
    /// `0`, `0:1`
    Index,
    /// `GPU-…`, `MIG-…`, where it is known.
    Uuid,
    /// `gpu0`, `mig0:1`
    TypeIndex,
}

impl NameStrategy {
    pub(super) fn gpu(self, gpu: &Gpu) -> Option<String> {
        match self {
            Self::Index => Some(gpu.index.to_string()),
            Self::Uuid => gpu.uuid.clone(),
            Self::TypeIndex => Some(format!("gpu{}", gpu.index)),
        }
    }

    pub(super) fn slice(self, gpu: &Gpu, slice: &MigDevice) -> Option<String> {
        match self {
            Self::Index => Some(format!("{}:{}", gpu.index, slice.index)),
            Self::Uuid => slice.uuid.clone(),
            Self::TypeIndex => Some(format!("mig{}:{}", gpu.index, slice.index)),
        }
    }
}
