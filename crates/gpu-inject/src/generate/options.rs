//! What a spec is to describe, and how.

use std::path::PathBuf;

use gpu_host::{Capabilities, Feature, Gpu, MigDevice};

/// Where engines find it. The vendor's tool writes the same file: two specs of one
/// kind in one directory would cancel each other out.
pub const SPEC_PATH: &str = "/var/run/cdi/nvidia.yaml";
/// Our hook's program.
pub const HOOK_PATH: &str = "/usr/bin/gpu-container-hook";
/// Kind of our devices.
pub const KIND: &str = "nvidia.com/gpu";

/// What a spec describes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// GPUs and MIG slices, whatever they come from.
    #[default]
    Gpu,
    /// For containers that manage the GPUs of a host: every node that the driver has,
    /// those included by which MIG and `NVSwitch` are set up.
    Management,
    /// A feature beside GPUs.
    Feature(Feature),
    /// IMEX channels.
    Imex,
}

impl Mode {
    /// Vendor and class, as nvidia-container-toolkit 1.20 `pkg/nvcdi` names them.
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
    /// Our hook's program on the host.
    pub hook_path: PathBuf,
    /// Which parts of the driver; a CDI device cannot ask, so all of them.
    pub capabilities: Capabilities,
    /// What to describe.
    pub mode: Mode,
    /// Instead of the mode's own.
    pub vendor: Option<String>,
    /// Instead of the mode's own.
    pub class: Option<String>,
    /// Names of GPUs and slices; each gives a device.
    pub names: Vec<NameStrategy>,
    /// Only these: index, UUID, `gpu:slice`.
    pub devices: Option<Vec<String>>,
    /// With `all`, which is every device in one.
    pub all: bool,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            hook_path: HOOK_PATH.into(),
            capabilities: Capabilities::ALL,
            mode: Mode::Gpu,
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
    /// `GPU-…`, `MIG-…`, where a source tells it.
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
