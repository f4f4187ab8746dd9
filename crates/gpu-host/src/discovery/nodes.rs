//! Device nodes that the host has, and those that the driver would make.
//!
//! `/dev/nvidia*` do not exist until nvidia-modprobe or an NVML program has run, so they may be
//! missing when a container is the first GPU program after a boot. Their attributes are known
//! all the same: majors from `/proc/devices`, owner and mode from `/proc/driver/nvidia/params`.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};

use crate::inventory::{Capabilities, Capability, ControlNode, DeviceNode};
use crate::os::kernel;
use crate::root::Root;
use crate::root::glob;

/// Major of `/dev/nvidia*` (Linux Documentation/admin-guide/devices.txt). Used where
/// `/proc/devices` cannot be read.
const NVIDIA_MAJOR: u32 = 195;
/// Minor of nvidiactl (open-gpu-kernel-modules, `nv-linux.h`).
const NVIDIACTL_MINOR: u32 = 255;
/// Minor of nvidia-modeset (open-gpu-kernel-modules, `nvidia-modeset-linux.c`).
const MODESET_MINOR: u32 = 254;

/// The `/dev` of a host, and the attributes of nodes that it lacks.
pub(crate) struct Dev<'a> {
    pub(crate) root: &'a Root,
    /// Directory that has `dev`.
    parent: PathBuf,
    majors: HashMap<String, u32>,
    owner: NodeOwner,
    missing: RefCell<BTreeSet<PathBuf>>,
}

/// Owner and permissions that the driver gives to the nodes that it makes.
#[derive(Clone, Copy)]
struct NodeOwner {
    mode: u32,
    uid: u32,
    gid: u32,
}

impl<'a> Dev<'a> {
    /// Reads the tree's tables of devices; `/dev` is taken to be below `parent`.
    pub(crate) fn new(root: &'a Root, parent: &Path) -> Self {
        let devices = root.read_to_string("/proc/devices").unwrap_or_default();
        let params = root
            .read_to_string("/proc/driver/nvidia/params")
            .unwrap_or_default();
        Self {
            root,
            parent: parent.to_owned(),
            majors: majors(&devices),
            owner: owner(&params),
            missing: RefCell::default(),
        }
    }

    /// Host paths of the nodes that were handed out although the host lacks them, sorted.
    pub(crate) fn missing(&self) -> Vec<PathBuf> {
        self.missing.borrow().iter().cloned().collect()
    }

    /// The host path of what a container sees at `path`.
    pub(crate) fn host_path(&self, path: &Path) -> PathBuf {
        self.parent.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The character device at `path` (as a container sees it), if the host has one.
    pub(crate) fn at(&self, path: &Path) -> Option<DeviceNode> {
        let host_path = self.host_path(path);
        let metadata = self.root.metadata(&host_path).ok()?;
        if !metadata.file_type().is_char_device() {
            return None;
        }
        Some(DeviceNode {
            path: path.to_owned(),
            host_path,
            major: number(major(metadata.rdev())),
            minor: number(minor(metadata.rdev())),
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
        })
    }

    /// The nodes whose container paths match a pattern, in order of names.
    pub(crate) fn matching(&self, pattern: &str) -> Vec<DeviceNode> {
        let host = self.host_path(Path::new(pattern));
        glob::expand(self.root, &host)
            .iter()
            .filter_map(|p| self.at(&Path::new("/").join(p.strip_prefix(&self.parent).ok()?)))
            .collect()
    }

    /// The node at `path`; where the host has none, the node that the driver would make.
    fn at_or_expected(
        &self,
        path: PathBuf,
        major: u32,
        minor: u32,
        mode: Option<u32>,
    ) -> DeviceNode {
        self.at(&path).unwrap_or_else(|| {
            let host_path = self.host_path(&path);
            self.missing.borrow_mut().insert(host_path.clone());
            let NodeOwner {
                mode: usual,
                uid,
                gid,
            } = self.owner;
            DeviceNode {
                path,
                host_path,
                major,
                minor,
                mode: mode.unwrap_or(usual),
                uid,
                gid,
            }
        })
    }

    /// `/dev/nvidiaN`; where the host has none yet, the node that the driver would make.
    pub(crate) fn gpu(&self, minor: u32) -> DeviceNode {
        let path = Path::new("/dev").join(format!("nvidia{minor}"));
        self.at_or_expected(path, self.nvidia_major(), minor, None)
    }

    /// `/dev/nvidia-caps/nvidia-capN`. `mode` is the one in the capability file.
    pub(crate) fn capability(&self, minor: u32, mode: Option<u32>) -> Option<DeviceNode> {
        let path = PathBuf::from(format!("/dev/nvidia-caps/nvidia-cap{minor}"));
        match self.majors.get("nvidia-caps") {
            Some(major) => Some(self.at_or_expected(path, *major, minor, mode)),
            None => self.at(&path),
        }
    }

    /// The nodes that belong to no single GPU, with the capabilities that need them.
    ///
    /// Source of the table: libnvidia-container `nvc_info.c` and nvidia-container-toolkit
    /// `pkg/nvcdi` (both 1.17): modeset for graphics and display, uvm for compute, nvidiactl for
    /// all. A node whose module is not loaded is left out unless it exists, because opening it
    /// would fail.
    pub(crate) fn control(&self) -> Vec<ControlNode> {
        use Capability::{Compute, Display, Graphics, Video};
        let nvidia = self.nvidia_major();
        let has_modeset = self.majors.contains_key("nvidia-modeset")
            || kernel::has_module(self.root, "nvidia_modeset");
        let uvm = self.majors.get("nvidia-uvm").copied();
        let table = [
            (
                "/dev/nvidiactl",
                Some((nvidia, NVIDIACTL_MINOR)),
                Capabilities::ALL,
            ),
            (
                "/dev/nvidia-modeset",
                has_modeset.then_some((nvidia, MODESET_MINOR)),
                Capabilities::of(&[Graphics, Display]),
            ),
            (
                "/dev/nvidia-uvm",
                uvm.map(|major| (major, 0)),
                Capabilities::of(&[Compute, Graphics, Video]),
            ),
            (
                "/dev/nvidia-uvm-tools",
                uvm.map(|major| (major, 1)),
                Capabilities::of(&[Compute]),
            ),
        ];
        table
            .into_iter()
            .filter_map(|(path, numbers, capabilities)| {
                let node = match numbers {
                    Some((major, minor)) => self.at_or_expected(path.into(), major, minor, None),
                    None => self.at(Path::new(path))?,
                };
                Some(ControlNode { node, capabilities })
            })
            .collect()
    }

    /// The driver registers `nvidia`; up to branch 545 it was `nvidia-frontend`.
    fn nvidia_major(&self) -> u32 {
        ["nvidia", "nvidia-frontend"]
            .iter()
            .find_map(|name| self.majors.get(*name).copied())
            .unwrap_or(NVIDIA_MAJOR)
    }
}

/// The majors of NVIDIA's character devices, sorted by name.
pub(super) fn nvidia_majors(root: &Root) -> Vec<(String, u32)> {
    let devices = root.read_to_string("/proc/devices").unwrap_or_default();
    let mut numbers: Vec<_> = majors(&devices).into_iter().collect();
    numbers.retain(|(name, _)| name.starts_with("nvidia"));
    numbers.sort();
    numbers
}

/// The number (major, minor) of a character device on the host.
pub(super) fn device_number(root: &Root, path: &Path) -> Option<(u32, u32)> {
    let metadata = root.metadata(path).ok()?;
    let rdev = metadata.rdev();
    metadata
        .file_type()
        .is_char_device()
        .then(|| (number(major(rdev)), number(minor(rdev))))
}

/// Reads the `MAJOR name` lines of the character devices (`proc_devices(5)`).
fn majors(devices: &str) -> HashMap<String, u32> {
    devices
        .lines()
        .take_while(|line| !line.starts_with("Block devices"))
        .filter_map(|line| {
            let (major, name) = line.trim().split_once(' ')?;
            Some((name.trim().to_owned(), major.parse().ok()?))
        })
        .collect()
}

/// Reads `DeviceFileMode`, `-UID` and `-GID` (driver README, ch. "Device files").
fn owner(params: &str) -> NodeOwner {
    let value = |key: &str| {
        params
            .lines()
            .filter_map(|l| l.split_once(':'))
            .find(|(k, _)| k.trim() == key)
            .and_then(|(_, v)| v.trim().parse::<u32>().ok())
    };
    NodeOwner {
        mode: value("DeviceFileMode").unwrap_or(0o666) & 0o777,
        uid: value("DeviceFileUID").unwrap_or(0),
        gid: value("DeviceFileGID").unwrap_or(0),
    }
}

fn number(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
