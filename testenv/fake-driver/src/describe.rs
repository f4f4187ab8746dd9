//! The description of a fake driver: a small TOML file, or a few numbers on the command line.

use serde::{Deserialize, Serialize};

use crate::wire;

/// A driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Such as `580.65.06`.
    pub driver_version: String,
    /// As `cuDriverGetVersion` returns it: 13000 is 13.0.
    pub cuda: i32,
    /// What connects this host to the GPUs.
    #[serde(default)]
    pub platform: Platform,
    /// The version of the loaded kernel module, where it differs from that of the files.
    #[serde(default)]
    pub loaded_version: Option<String>,
    /// There is no `/dev/nvidia*` yet, as before nvidia-modprobe has run.
    #[serde(default)]
    pub no_nodes: bool,
    /// Files of a few bytes, and lists of only what exists: for trees that are copied or packed. Otherwise files are
    /// as large as a real driver's, with holes, so that they take up little disk.
    #[serde(default)]
    pub small: bool,
    /// `gds`, `mofed`, `gdrcopy`, `nvswitch`: their nodes and files are made.
    #[serde(default)]
    pub features: Vec<String>,
    /// IMEX channels that have a node.
    #[serde(default)]
    pub imex_channels: Vec<u32>,
    /// GPUs in PCI order.
    #[serde(default, rename = "gpu")]
    pub gpus: Vec<Gpu>,
    /// GPUs of AMD and Intel.
    #[serde(default, rename = "other")]
    pub others: Vec<Other>,
}

/// What connects a host to its GPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// The NVIDIA kernel driver.
    #[default]
    Nvidia,
    /// Windows, through `/dev/dxg`.
    Wsl,
    /// A Tegra with its CSV files.
    Tegra,
}

/// A GPU of another vendor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Other {
    /// Its kernel driver: `amdgpu`, `i915`, `xe`.
    pub driver: String,
    /// `0000:3b:00.0`
    pub pci: String,
    /// N of `/dev/dri/cardN`; `renderD` is 128 more.
    pub card: u32,
}

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// Product name.
    pub name: String,
    /// `GPU-…`
    pub uuid: String,
    /// `0000:3b:00.0`
    pub pci: String,
    /// N of `/dev/nvidiaN`.
    pub minor: u32,
    /// Slices.
    #[serde(default)]
    pub mig: Vec<Slice>,
}

/// A MIG slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// Such as `1g.10gb`.
    pub profile: String,
    /// `MIG-…`
    pub uuid: String,
    /// GPU instance id.
    pub gpu_instance: u32,
    /// Compute instance id.
    pub compute_instance: u32,
}

/// The most GPUs: more than any machine has, and as many as fit into the libraries' buffer.
pub const MOST_GPUS: u32 = 64;
/// The most slices of one GPU (MIG User Guide, H100).
pub const MOST_SLICES: u32 = 7;

impl Description {
    /// `gpus` H100s with `slices` slices each. The same numbers give the same UUIDs.
    pub fn of(driver_version: &str, gpus: u32, slices: u32) -> Self {
        Self {
            driver_version: driver_version.into(),
            cuda: 13_000,
            platform: Platform::Nvidia,
            loaded_version: None,
            no_nodes: false,
            small: false,
            features: Vec::new(),
            imex_channels: Vec::new(),
            others: Vec::new(),
            gpus: (0..gpus.min(MOST_GPUS))
                .map(|n| Gpu {
                    name: "NVIDIA H100 80GB HBM3".into(),
                    uuid: format!("GPU-fa4e0000-{n:04x}-4000-8000-00000000{n:04x}"),
                    pci: format!("0000:{:02x}:00.0", 0x81 + n),
                    minor: n,
                    mig: (0..slices.min(MOST_SLICES))
                        .map(|s| Slice {
                            profile: "1g.10gb".into(),
                            uuid: format!("MIG-fa4e0000-{n:04x}-5000-8000-0000{s:04x}{n:04x}"),
                            gpu_instance: s + 7,
                            compute_instance: 0,
                        })
                        .collect(),
                })
                .collect(),
        }
    }

    /// Reads a description file's text.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        let read: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        if read.gpus.len() > MOST_GPUS as usize
            || read.gpus.iter().any(|g| g.mig.len() > MOST_SLICES as usize)
        {
            return Err(format!("at most {MOST_GPUS} GPUs of {MOST_SLICES} slices"));
        }
        for (at, gpu) in read.gpus.iter().enumerate() {
            let others = read.gpus.iter().take(at);
            if others
                .clone()
                .any(|o| o.minor == gpu.minor || o.uuid == gpu.uuid || o.pci == gpu.pci)
            {
                return Err(format!(
                    "{}: minor, uuid or pci is another GPU's too",
                    gpu.uuid
                ));
            }
            // 255 and 254 are nvidiactl and nvidia-modeset.
            if gpu.minor > 253 {
                return Err(format!("{}: minor {} is above 253", gpu.uuid, gpu.minor));
            }
            let too_high = |s: &Slice| s.gpu_instance > 14 || s.compute_instance > 7;
            if let Some(slice) = gpu.mig.iter().find(|s| too_high(s)) {
                return Err(format!(
                    "{}: gpu_instance is 0 to 14, compute_instance 0 to 7",
                    slice.uuid
                ));
            }
        }
        Ok(read)
    }

    /// The form that is stored in the libraries.
    pub fn to_wire(&self) -> wire::Wire {
        wire::Wire {
            version: self.driver_version.clone(),
            cuda: self.cuda,
            gpus: self.gpus.iter().map(Gpu::to_wire).collect(),
        }
    }
}

impl Gpu {
    fn to_wire(&self) -> wire::Gpu {
        wire::Gpu {
            minor: self.minor,
            uuid: self.uuid.clone(),
            pci: self.pci.clone(),
            name: self.name.clone(),
            mig: self
                .mig
                .iter()
                .map(|s| wire::Slice {
                    gpu_instance: s.gpu_instance,
                    compute_instance: s.compute_instance,
                    uuid: s.uuid.clone(),
                    profile: s.profile.clone(),
                    caps: s.caps(self.minor),
                })
                .collect(),
        }
    }
}

impl Slice {
    /// Minors of the nodes of the GPU instance and the compute instance, numbered as the driver does: 1 and 2 are
    /// config and monitor; then each GPU has 15 GPU instances with one minor each, and 8 compute instances for each
    /// of these (MIG User Guide, "Device Nodes and Capabilities").
    pub fn caps(&self, gpu_minor: u32) -> [u32; 2] {
        let first = 3 + (gpu_minor * 15 + self.gpu_instance) * 9;
        [first, first + 1 + self.compute_instance]
    }
}
