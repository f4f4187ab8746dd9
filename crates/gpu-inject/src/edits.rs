//! The edits that a GPU container needs, independent of how they are applied.
//!
//! `plan` makes them from a request and the inventory; `generate` makes them from the inventory
//! alone, for a CDI spec. `oci` and `live` apply them. Since all four use this one type, they
//! cannot disagree about what a container gets.

use std::path::PathBuf;

use gpu_host::{DeviceNode, Link, Need, PciAddress};

/// Everything that one container gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Environment variables to set. One that exists already is replaced.
    pub env: Vec<(String, String)>,
    /// Device nodes, each with a device-cgroup rule `rw`.
    pub devices: Vec<DeviceNode>,
    /// Supplementary groups that a non-root process needs to open those nodes.
    pub additional_gids: Vec<u32>,
    /// Files and directories of the host to mount.
    pub mounts: Vec<BindMount>,
    /// Files of the host that the low-level runtime has mounted already. Only our hook's edits
    /// have them, so that it can check where they went.
    pub mounted: Vec<Mounted>,
    /// Symbolic links to make, besides the SONAME links of `libraries`.
    pub links: Vec<Link>,
    /// Links that are made only if their target is a device node in the container. Used in the
    /// edits of a CDI spec, which are made before it is known which GPUs a container gets.
    pub links_by_nodes: Vec<Link>,
    /// The libraries among `mounts`. Each gets its SONAME link and an entry in ld.so.cache.
    pub libraries: Vec<Library>,
    /// Give the container a `/proc/driver/nvidia/params` with `ModifyDeviceFiles: 0`,
    /// so that the driver's user space does not make device nodes on its own.
    pub forbid_device_node_creation: bool,
    /// Which GPU each node stood for when a CDI spec was made. Used in the edits of a spec alone: a plan is made of what the
    /// host has at the start of the container.
    pub gpus: Vec<GpuIdentity>,
    /// The driver with which the image's own CUDA compatibility libraries are compared.
    pub cuda_compat: Option<CudaCompat>,
    /// The value of `EGLVisibleDGPUDevices` in the container's application profile: bit N stands
    /// for the GPU with minor N (libnvidia-container `nvc_mount.c`).
    pub egl_devices: Option<u64>,
    /// Compute that value from the nodes in the container's `/dev`. Used in the edits of a CDI
    /// spec, which are made before it is known which GPUs a container gets.
    pub egl_devices_by_nodes: bool,
}

/// The GPU behind the node `nvidiaN`, as a spec's device was made for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuIdentity {
    /// The N of the node.
    pub minor: u32,
    /// The index that the spec's name for it has.
    pub index: u32,
    /// Its PCI address.
    pub pci: PciAddress,
    /// Its UUID, where it is known.
    pub uuid: Option<String>,
}

/// Facts that decide whether a container uses the libraries in its image's
/// `/usr/local/cuda/compat` or those of the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CudaCompat {
    /// Version of the host's driver, such as `580.65.06`.
    pub driver: String,
    /// Highest CUDA version of that driver (major, minor), where known.
    pub cuda: Option<(u32, u32)>,
    /// The image's directory with the libraries; `None` means [`COMPAT_ROOT`].
    pub root: Option<PathBuf>,
}

/// Where the packages `cuda-compat-*` put their libraries (CUDA Compatibility, "Installing
/// the Forward Compatibility Package").
pub const COMPAT_ROOT: &str = "/usr/local/cuda/compat";

/// The kind of a mount. It decides the mount's flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A library, program or firmware: `ro,nosuid,nodev`.
    File,
    /// A file by which OpenCL, Vulkan or EGL find the driver: `ro,nosuid,nodev`. It is left out
    /// if the user mounts a volume over its directory, such as `-v x:/etc`.
    Config,
    /// A socket or pipe directory: `nosuid,nodev,noexec`, writable.
    Socket,
    /// A file of procfs: `ro,nosuid,nodev,noexec`.
    Proc,
}

/// A bind mount. Propagation is always private.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindMount {
    /// Decides the flags.
    pub kind: MountKind,
    /// Path on the host, links resolved.
    pub host_path: PathBuf,
    /// Path in the container.
    pub path: PathBuf,
    /// Whether the container is started if the host's file cannot be reached.
    pub need: Need,
}

/// A mount that the low-level runtime has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Path on the host.
    pub host_path: PathBuf,
    /// Path in the container.
    pub path: PathBuf,
}

/// A library in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// Path in the container.
    pub path: PathBuf,
    /// `DT_SONAME`; the file's name if the ELF file has none.
    pub soname: String,
    /// Whether it is a 32-bit library.
    pub compat32: bool,
}
