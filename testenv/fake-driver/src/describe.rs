//! The description of a fake driver: one small TOML file, or numbers on the command line.

use serde::{Deserialize, Serialize};

use crate::wire;

/// A driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// For instance `580.65.06`.
    pub driver_version: String,
    /// As `cuDriverGetVersion` says it: 13000 is 13.0.
    pub cuda: i32,
    /// What stands between the GPUs and this host.
    #[serde(default)]
    pub platform: Platform,
    /// Version of the loaded kernel module, where it is not that of the files.
    #[serde(default)]
    pub loaded_version: Option<String>,
    /// No `/dev/nvidia*` yet, as before somebody runs nvidia-modprobe.
    #[serde(default)]
    pub no_nodes: bool,
    /// Files of a few bytes, and lists of what is there alone: for trees that are copied or packed. Otherwise files are
    /// as large as a real driver's, with holes, so that they take up little disk.
    #[serde(default)]
    pub small: bool,
    /// `gds`, `mofed`, `gdrcopy`, `nvswitch`: lays out their nodes and files.
    #[serde(default)]
    pub features: Vec<String>,
    /// IMEX channels whose nodes are there.
    #[serde(default)]
    pub imex_channels: Vec<u32>,
    /// GPUs in PCI order.
    #[serde(default, rename = "gpu")]
    pub gpus: Vec<Gpu>,
    /// GPUs of AMD and Intel.
    #[serde(default, rename = "other")]
    pub others: Vec<Other>,
}

/// What stands between GPUs and host.
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
    /// For instance `1g.10gb`.
    pub profile: String,
    /// `MIG-…`
    pub uuid: String,
    /// GPU instance id.
    pub gpu_instance: u32,
    /// Compute instance id.
    pub compute_instance: u32,
}

/// The most GPUs there can be: more than any machine, and all that the libraries' buffer holds.
pub const MOST_GPUS: u32 = 64;
/// The most slices of one GPU (MIG User Guide, H100).
pub const MOST_SLICES: u32 = 7;

impl Description {
    /// `gpus` H100s of `slices` slices each; the same numbers give the same UUIDs.
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

    /// Reads the file's text.
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

    /// The form that travels in the libraries.
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
    /// Minors of the nodes for the GPU instance and the compute instance, in the driver's own
    /// numbering: 1 and 2 are config and monitor, then each GPU has 15 GPU instances of one
    /// minor and 8 compute instances each (MIG User Guide, "Device Nodes and Capabilities").
    pub fn caps(&self, gpu_minor: u32) -> [u32; 2] {
        let first = 3 + (gpu_minor * 15 + self.gpu_instance) * 9;
        [first, first + 1 + self.compute_instance]
    }
}
