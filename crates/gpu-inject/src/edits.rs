//! The edits a GPU container needs, apart from how they are carried out.
//!
//! `plan` makes them from a request and the inventory, `generate` from the
//! inventory alone (then they become a CDI spec). `spec` and `live` carry them
//! out. All four share this value, so they cannot disagree.

use std::path::PathBuf;

use gpu_host::{DeviceNode, Link, Need};

/// What one container gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Environment variables to set; a name already there is replaced.
    pub env: Vec<(String, String)>,
    /// Device nodes, each with a device-cgroup rule `rw`.
    pub devices: Vec<DeviceNode>,
    /// Supplementary groups a non-root process needs to open those nodes.
    pub additional_gids: Vec<u32>,
    /// Files and directories of the host.
    pub mounts: Vec<Mount>,
    /// Files of the host that the low-level runtime has mounted already, where it is our hook that
    /// has these edits.
    pub mounted: Vec<Mounted>,
    /// Symbolic links, beyond the SONAME links of `libraries`.
    pub links: Vec<Link>,
    /// Links that are made where their target is a device node in the container, for edits
    /// that are made before it is known which GPUs a container gets: those of a CDI spec.
    pub links_by_nodes: Vec<Link>,
    /// Libraries among `mounts`: each gets its SONAME link and its entry in ld.so.cache.
    pub libraries: Vec<Library>,
    /// Give the container a `/proc/driver/nvidia/params` with `ModifyDeviceFiles: 0`,
    /// so that the driver's user space does not make device nodes on its own.
    pub forbid_device_node_creation: bool,
    /// The driver that the image's own CUDA compatibility libraries are weighed against.
    pub cuda_compat: Option<CudaCompat>,
    /// Bit N for the GPU of minor N: what `EGLVisibleDGPUDevices` in the container's
    /// application profile says (libnvidia-container `nvc_mount.c`).
    pub egl_devices: Option<u64>,
    /// The same from the nodes found in the container's own `/dev`, for edits that are made
    /// before it is known which GPUs a container gets: those of a CDI spec.
    pub egl_devices_by_nodes: bool,
}

/// What decides between the libraries in an image's `/usr/local/cuda/compat` and the
/// driver's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CudaCompat {
    /// Version of the host's driver, `580.65.06`.
    pub driver: String,
    /// Highest CUDA version of that driver, where known.
    pub cuda: Option<(u32, u32)>,
    /// Where the image has its libraries; [`COMPAT_ROOT`] where `None`.
    pub root: Option<PathBuf>,
}

/// Where the packages `cuda-compat-*` put their libraries (CUDA Compatibility, "Installing
/// the Forward Compatibility Package").
pub const COMPAT_ROOT: &str = "/usr/local/cuda/compat";

/// How a mount's flags are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A library, program or firmware: `ro,nosuid,nodev`.
    File,
    /// What tells OpenCL, Vulkan or EGL of the driver, with the same flags: left out where the
    /// user has a volume there, `-v x:/etc`.
    Config,
    /// A socket or pipe directory: `nosuid,nodev,noexec`, writable.
    Socket,
    /// A file of procfs: `ro,nosuid,nodev,noexec`.
    Proc,
}

/// A bind mount. Propagation is always private.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Flags.
    pub kind: MountKind,
    /// On the host, links resolved.
    pub host_path: PathBuf,
    /// In the container.
    pub path: PathBuf,
    /// Whether the container is started without it.
    pub need: Need,
}

/// What somebody else has mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// On the host.
    pub host_path: PathBuf,
    /// In the container.
    pub path: PathBuf,
}

/// A library in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// In the container.
    pub path: PathBuf,
    /// `DT_SONAME`; the file's own name where the ELF has none.
    pub soname: String,
    /// A 32-bit one.
    pub compat32: bool,
}
