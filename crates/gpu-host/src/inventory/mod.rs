//! The inventory: everything of this host that a container can be given.
//!
//! It is the one value that discovery hands to the CDI generator, to the
//! planner and to `gpusetup detect`. Paths named `path` are what a container
//! sees (the driver root already taken off); paths named `host_path` are where
//! the host has them.

mod capabilities;
mod pci_address;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use capabilities::{Capabilities, Capability};
pub use pci_address::{BadPciAddress, PciAddress};

/// Everything of this host that a container can be given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inventory {
    /// Format of this document; readers refuse what they do not know. Now [`SCHEMA`].
    pub schema: u32,
    /// Where the GPUs come from.
    pub source: Source,
    /// Where the driver's user space lives on the host, `/` for most.
    pub driver_root: PathBuf,
    /// What must still be the same for a stored inventory to be used.
    pub freshness: Freshness,
    /// The loaded driver with its files, if there is one.
    pub driver: Option<Driver>,
    /// GPUs in index order.
    pub gpus: Vec<Gpu>,
    /// Nodes every GPU container needs: nvidiactl, nvidia-uvm and so on.
    pub control_nodes: Vec<ControlNode>,
    /// Nodes that let a container partition GPUs (`mig/config`) or watch the slices of
    /// others (`mig/monitor`).
    pub mig_control: MigControl,
    /// What a container may ask for besides GPUs, as far as this host has it.
    pub features: Vec<FeatureFiles>,
    /// IMEX channels in order.
    pub imex_channels: Vec<ImexChannel>,
    /// Host paths of nodes above that the host does not have yet: their numbers are what
    /// the driver would give them.
    pub missing_nodes: Vec<PathBuf>,
    /// On a Tegra: what the CSV files besides the three base ones list, for images that ask
    /// for it (`NVIDIA_REQUIRE_JETPACK=csv-mounts=all`).
    pub tegra_more: Vec<DriverFile>,
}

/// The format that is written and read.
pub const SCHEMA: u32 = 2;

/// Where the GPUs come from, hence what a container's driver files are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The NVIDIA kernel driver: `/dev/nvidia*`.
    #[default]
    Nvidia,
    /// A Windows host, through `/dev/dxg`: one device, `all`.
    Wsl,
    /// An integrated GPU of a Tegra, as its CSV files list it.
    Tegra,
}

/// MIG's two global capabilities (MIG User Guide, "Device Nodes and Capabilities").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigControl {
    /// `/dev/nvidia-caps/nvidia-capN` of `mig/config`.
    pub config: Option<DeviceNode>,
    /// The same of `mig/monitor`.
    pub monitor: Option<DeviceNode>,
}

/// What a container asks for by `NVIDIA_GDS=enabled` and its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Feature {
    /// `GPUDirect` Storage: `/dev/nvidia-fs*`.
    Gds,
    /// `InfiniBand` and `RoCE`: `/dev/infiniband`.
    Mofed,
    /// `GDRCopy`: `/dev/gdrdrv`.
    Gdrcopy,
    /// `NVSwitch`: `/dev/nvidia-nvswitch*`.
    Nvswitch,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Gds, Self::Mofed, Self::Gdrcopy, Self::Nvswitch];

    /// The word of the variable, lower case.
    pub fn word(self) -> &'static str {
        match self {
            Self::Gds => "gds",
            Self::Mofed => "mofed",
            Self::Gdrcopy => "gdrcopy",
            Self::Nvswitch => "nvswitch",
        }
    }
}

/// Nodes and files of a [`Feature`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureFiles {
    /// Which.
    pub feature: Feature,
    /// Its nodes.
    pub nodes: Vec<DeviceNode>,
    /// Files and directories that go with them.
    pub files: Vec<DriverFile>,
}

/// A channel for memory shared between the GPUs of several hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImexChannel {
    /// The N of `/dev/nvidia-caps-imex-channels/channelN`.
    pub id: u32,
    /// The node.
    pub node: DeviceNode,
}

/// What a stored inventory depends on. Cheap to read again at container start:
/// a few small files and directories, one `stat`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freshness {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Version of the loaded driver.
    pub driver_version: String,
    /// Inode and modification time (ns) of `<driver root>/etc/ld.so.cache`.
    pub ld_cache: Option<(u64, i64)>,
    /// Hash over the names of the GPUs and MIG instances that the driver's procfs lists, of the
    /// nodes of features and IMEX channels, and of what WSL and Tegra have instead.
    pub devices: u64,
}

/// The loaded driver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Driver {
    /// For instance `580.65.06`; empty where the source does not tell it (some WSL and
    /// Tegra hosts).
    pub version: String,
    /// Highest CUDA version the driver supports, where a source tells it (NVML).
    pub cuda: Option<(u32, u32)>,
    /// User-space files of this driver version, sorted by `path`.
    pub files: Vec<DriverFile>,
}

/// What kind of file this is, hence how it is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// A shared library of the native word size; goes into the loader cache.
    Library,
    /// A 32-bit shared library (`compat32`).
    Library32,
    /// A program.
    Binary,
    /// GSP firmware.
    Firmware,
    /// JSON, ICD and other data files.
    Config,
    /// A Unix socket or a directory of pipes (persistenced, fabric manager, MPS).
    Socket,
    /// An X.org module; a library nobody looks up through the loader cache.
    XModule,
}

/// Whether a container is started without a file that cannot be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// It is refused: a program in it would fail later, without a reason.
    #[default]
    Required,
    /// It is started.
    Optional,
    /// It is started, and a directory on the way to the file is closed to all but its owner or
    /// group: who may reach it is seen where the container is made.
    OptionalAndClosed,
}

impl Need {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    fn is_required(&self) -> bool {
        *self == Self::Required
    }
}

/// One file of the driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverFile {
    /// How it is mounted.
    pub kind: FileKind,
    /// Where a container sees it.
    pub path: PathBuf,
    /// Where the host has it, links resolved.
    pub host_path: PathBuf,
    /// A container gets it when it asks for one of these.
    pub capabilities: Capabilities,
    /// ELF `DT_SONAME`, for libraries.
    pub soname: Option<String>,
    /// Links to make for it: `libcuda.so`, `gbm/nvidia-drm_gbm.so` and the like.
    /// The SONAME link is not listed, it follows from `soname`.
    pub links: Vec<Link>,
    /// Whether a container is started without it.
    #[serde(default, skip_serializing_if = "Need::is_required")]
    pub need: Need,
}

/// A symbolic link a container gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Where the link is.
    pub path: PathBuf,
    /// What it says, relative or absolute.
    pub target: PathBuf,
}

/// A character device node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    /// Where a container sees it.
    pub path: PathBuf,
    /// Where the host has it.
    pub host_path: PathBuf,
    /// Device number.
    pub major: u32,
    /// Device number.
    pub minor: u32,
    /// Permission bits on the host, without the file type.
    pub mode: u32,
    /// Owner on the host.
    pub uid: u32,
    /// Group on the host.
    pub gid: u32,
}

/// A node that belongs to no single GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlNode {
    /// The node.
    pub node: DeviceNode,
    /// A container gets it when it asks for one of these (nvidiactl: any).
    pub capabilities: Capabilities,
}

/// One GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// NVML's index: PCI order among the GPUs the driver has.
    pub index: u32,
    /// The N of `/dev/nvidiaN`; not always the index.
    pub minor: u32,
    /// `GPU-xxxxxxxx-…`, where a source tells it.
    pub uuid: Option<String>,
    /// Product name.
    pub name: Option<String>,
    /// Product line, as NVML names it (`Tesla`, `GeForce`, …).
    pub brand: Option<String>,
    /// Compute capability.
    pub compute_capability: Option<(u32, u32)>,
    /// Where it sits.
    pub pci: PciAddress,
    /// `/dev/nvidiaN`.
    pub node: DeviceNode,
    /// `/dev/dri/cardN` and `/dev/dri/renderDN` of the same PCI device.
    pub drm: Vec<DeviceNode>,
    /// `/dev/dri/by-path` links to those.
    pub drm_links: Vec<Link>,
    /// True when the GPU is partitioned: whole-GPU requests then mean its slices.
    pub mig_enabled: bool,
    /// Its slices, in MIG index order.
    pub mig: Vec<MigDevice>,
}

/// One MIG slice (a compute instance in a GPU instance).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigDevice {
    /// MIG index on its GPU, the second number of `0:1`.
    pub index: u32,
    /// `MIG-xxxxxxxx-…`, where a source tells it (NVML only).
    pub uuid: Option<String>,
    /// GPU instance id.
    pub gpu_instance: u32,
    /// Compute instance id.
    pub compute_instance: u32,
    /// For instance `1g.10gb`.
    pub profile: Option<String>,
    /// The `/dev/nvidia-caps/nvidia-capN` nodes for the two `access` files.
    pub nodes: Vec<DeviceNode>,
    /// The two `access` files below `/proc/driver/nvidia/capabilities`.
    pub access_files: Vec<PathBuf>,
}
