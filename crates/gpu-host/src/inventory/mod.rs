//! The inventory: everything on this host that a container can be given.
//!
//! Discovery makes it; the CDI generator, the planner and `gpusetup detect` use it. Fields named
//! `path` are paths in a container (without the driver root); fields named `host_path` are paths
//! on the host.

mod capabilities;
mod pci_address;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use capabilities::{Capabilities, Capability};
pub use pci_address::{BadPciAddress, PciAddress};

/// Everything on this host that a container can be given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inventory {
    /// Format of this document, now [`SCHEMA`]. Readers refuse every other number.
    pub schema: u32,
    /// Where the GPUs come from.
    pub source: Source,
    /// Where the driver's user space is on the host; `/` for most.
    pub driver_root: PathBuf,
    /// Facts that must be unchanged for a stored inventory to be used.
    pub freshness: Freshness,
    /// The loaded driver with its files, if there is one.
    pub driver: Option<Driver>,
    /// GPUs in index order.
    pub gpus: Vec<Gpu>,
    /// GPUs that no container gets, since the kernel and NVML do not say the same of them.
    pub disputed: Vec<DisputedGpu>,
    /// Why NVML, which was asked, gave no answer. Not stored: it says nothing of the GPUs.
    #[serde(skip)]
    pub nvml_silence: Option<String>,
    /// Nodes that belong to no single GPU: nvidiactl, nvidia-uvm and so on.
    pub control_nodes: Vec<ControlNode>,
    /// Nodes that let a container partition GPUs (`mig/config`) or watch the slices of
    /// others (`mig/monitor`).
    pub mig_control: MigControl,
    /// What this host has besides GPUs and a container may ask for.
    pub features: Vec<FeatureFiles>,
    /// IMEX channels, in order of their numbers.
    pub imex_channels: Vec<ImexChannel>,
    /// Host paths of those nodes above that do not exist yet. Their device numbers are the ones
    /// that the driver would give them.
    pub missing_nodes: Vec<PathBuf>,
    /// On a Tegra: the files that only the CSV files besides the three base ones list, for images
    /// that ask for them (`NVIDIA_REQUIRE_JETPACK=csv-mounts=all`).
    pub tegra_more: Vec<DriverFile>,
}

/// The number of the format that is written and read.
pub const SCHEMA: u32 = 3;

/// Where the GPUs come from. This decides which driver files a container gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The NVIDIA kernel driver: `/dev/nvidia*`.
    #[default]
    Nvidia,
    /// A Windows host, through `/dev/dxg`, which is one device named `all`.
    Wsl,
    /// The integrated GPU of a Tegra, as CSV files describe it.
    Tegra,
}

/// MIG's two global capabilities (MIG User Guide, "Device Nodes and Capabilities").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigControl {
    /// The `/dev/nvidia-caps/nvidia-capN` of `mig/config`: partition GPUs.
    pub config: Option<DeviceNode>,
    /// The `/dev/nvidia-caps/nvidia-capN` of `mig/monitor`: watch all slices.
    pub monitor: Option<DeviceNode>,
}

/// What a container can request besides GPUs, with `NVIDIA_GDS=enabled` and similar variables.
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

    /// The word in the variable's name, in lower case.
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
    /// The feature.
    pub feature: Feature,
    /// Its device nodes.
    pub nodes: Vec<DeviceNode>,
    /// Files and directories that it needs besides the nodes.
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

/// A GPU of which the kernel and NVML do not say the same. Its index stays its own: a name that meant it must never
/// mean another GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisputedGpu {
    /// The index that it would have.
    pub index: u32,
    /// Its PCI address.
    pub pci: PciAddress,
    /// Its UUID, where it is known.
    pub uuid: Option<String>,
    /// What the sources say.
    pub why: String,
}

/// A GPU as the kernel lists it, which is what names of GPUs depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuKey {
    /// Its PCI address.
    pub pci: PciAddress,
    /// The N of `/dev/nvidiaN`; unknown while the driver attaches it.
    pub minor: Option<u32>,
    /// Its UUID; unknown until the driver has used it once.
    pub uuid: Option<String>,
    /// Whether no process can use it (`NVreg_ExcludedGpus`).
    pub is_excluded: bool,
    /// Device number (major, minor) of its node, if there is one.
    pub node: Option<(u32, u32)>,
}

/// What a stored inventory was made from. It is read again at every container start that asks for a GPU: some small files
/// and directories, and two reads for each GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freshness {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Version of the loaded driver.
    pub driver_version: String,
    /// Inode and modification time (ns) of `<driver root>/etc/ld.so.cache`.
    pub ld_cache: Option<(u64, i64)>,
    /// The GPUs that the driver lists, excluded ones as well, in PCI order. `None` where the list cannot be read.
    pub gpus: Option<Vec<GpuKey>>,
    /// The majors of NVIDIA's drivers, sorted: a module that is loaded again can get another one.
    pub majors: Vec<(String, u32)>,
    /// Hash over the names of MIG instances in the driver's procfs, of the nodes of features and IMEX
    /// channels, and of WSL's driver folders and Tegra's CSV files.
    pub devices: u64,
}

impl Freshness {
    /// Whether the host, of which `now` was read, is still the one of which this was read. It is no change that the driver tells a
    /// UUID only at one of the two times, nor that a node comes or goes: the inventory has its number.
    pub fn is_still(&self, now: &Self) -> bool {
        let (Some(before), Some(after)) = (&self.gpus, &now.gpus) else {
            return false;
        };
        let without_gpus = |of: &Self| Self {
            gpus: None,
            ..of.clone()
        };
        before.len() == after.len()
            && before.iter().zip(after).all(|(a, b)| a.is_still(b))
            && without_gpus(self) == without_gpus(now)
    }
}

impl GpuKey {
    fn is_still(&self, now: &Self) -> bool {
        fn is_same<T: PartialEq>(a: Option<&T>, b: Option<&T>) -> bool {
            a.zip(b).is_none_or(|(a, b)| a == b)
        }
        (self.pci, self.minor, self.is_excluded) == (now.pci, now.minor, now.is_excluded)
            && is_same(self.uuid.as_ref(), now.uuid.as_ref())
            && is_same(self.node.as_ref(), now.node.as_ref())
    }
}

/// The loaded driver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Driver {
    /// For instance `580.65.06`; empty where it is unknown (some WSL and Tegra hosts).
    pub version: String,
    /// Highest CUDA version the driver supports (major, minor), where it is known (from NVML).
    pub cuda: Option<(u32, u32)>,
    /// User-space files of this driver version, sorted by `path`.
    pub files: Vec<DriverFile>,
}

/// The kind of a driver file. It decides how the file is mounted.
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
    /// An X.org module: a library that is not looked up through the loader cache.
    XModule,
}

/// Whether a container is started if a file cannot be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// The start is refused: otherwise a program in the container would fail later with an error
    /// that does not name the cause.
    #[default]
    Required,
    /// The container is started without the file.
    Optional,
    /// As `Optional`; in addition, only the owner or group of a parent directory can reach the
    /// file. Whether the container's user can is decided when the container is made.
    OptionalAndClosed,
}

impl Need {
    #[allow(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
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
    /// Where it is on the host, links resolved.
    pub host_path: PathBuf,
    /// A container gets the file if it asks for one of these.
    pub capabilities: Capabilities,
    /// ELF `DT_SONAME`, for libraries.
    pub soname: Option<String>,
    /// Links to make for the file, such as `libcuda.so` and `gbm/nvidia-drm_gbm.so`.
    /// The SONAME link is not listed because it follows from `soname`.
    pub links: Vec<Link>,
    /// Whether a container is started if the file cannot be reached.
    #[serde(default, skip_serializing_if = "Need::is_required")]
    pub need: Need,
}

/// A symbolic link a container gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Where the link is.
    pub path: PathBuf,
    /// The link's target as stored in it, relative or absolute.
    pub target: PathBuf,
}

/// A character device node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    /// Where a container sees it.
    pub path: PathBuf,
    /// Where it is on the host.
    pub host_path: PathBuf,
    /// Major device number.
    pub major: u32,
    /// Minor device number.
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
    /// A container gets the node if it asks for one of these (nvidiactl: any).
    pub capabilities: Capabilities,
}

/// One GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// NVML's index: PCI order among the GPUs the driver has.
    pub index: u32,
    /// The N of `/dev/nvidiaN`; not always the index.
    pub minor: u32,
    /// `GPU-xxxxxxxx-…`, where it is known.
    pub uuid: Option<String>,
    /// Product name.
    pub name: Option<String>,
    /// Product line, as NVML names it (`Tesla`, `GeForce`, …).
    pub brand: Option<String>,
    /// Compute capability (major, minor).
    pub compute_capability: Option<(u32, u32)>,
    /// Its PCI address.
    pub pci: PciAddress,
    /// `/dev/nvidiaN`.
    pub node: DeviceNode,
    /// `/dev/dri/cardN` and `/dev/dri/renderDN` of the same PCI device.
    pub drm: Vec<DeviceNode>,
    /// `/dev/dri/by-path` links to those.
    pub drm_links: Vec<Link>,
    /// True if the GPU is partitioned; a request for the whole GPU then means its slices.
    pub mig_enabled: bool,
    /// Its MIG slices, in order of their MIG index.
    pub mig: Vec<MigDevice>,
}

/// One MIG slice (a compute instance in a GPU instance).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigDevice {
    /// MIG index on its GPU, the second number of `0:1`.
    pub index: u32,
    /// `MIG-xxxxxxxx-…`, where it is known (from NVML only).
    pub uuid: Option<String>,
    /// GPU instance id.
    pub gpu_instance: u32,
    /// Compute instance id.
    pub compute_instance: u32,
    /// The profile, for instance `1g.10gb`; known from NVML only.
    pub profile: Option<String>,
    /// The `/dev/nvidia-caps/nvidia-capN` nodes for the two `access` files.
    pub nodes: Vec<DeviceNode>,
    /// The two `access` files below `/proc/driver/nvidia/capabilities`.
    pub access_files: Vec<PathBuf>,
}
