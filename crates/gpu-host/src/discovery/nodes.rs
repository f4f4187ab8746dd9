//! Device nodes as the host has them, or as the driver would make them.
//!
//! Nobody makes `/dev/nvidia*` before somebody runs nvidia-modprobe or an NVML program, so
//! a host whose first program is a container has none. What a node would be is known all
//! the same: majors from `/proc/devices`, owner and mode from `/proc/driver/nvidia/params`.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};

use crate::inventory::{Capabilities, Capability, ControlNode, DeviceNode};
use crate::os::kernel;
use crate::root::Root;
use crate::root::glob;

/// Major of `/dev/nvidia*` (Linux Documentation/admin-guide/devices.txt), where
/// `/proc/devices` cannot be read.
const NVIDIA_MAJOR: u32 = 195;
/// Minor of nvidiactl (open-gpu-kernel-modules, `nv-linux.h`).
const NVIDIACTL_MINOR: u32 = 255;
/// Minor of nvidia-modeset (the same, `nvidia-modeset-linux.c`).
const MODESET_MINOR: u32 = 254;

/// `/dev` of a host, with what is known of nodes that it lacks.
pub(crate) struct Dev<'a> {
    pub(crate) root: &'a Root,
    below: PathBuf,
    majors: HashMap<String, u32>,
    owner: Owner,
    missing: RefCell<BTreeSet<PathBuf>>,
}

/// What the driver gives to the nodes that it makes.
#[derive(Clone, Copy)]
struct Owner {
    mode: u32,
    uid: u32,
    gid: u32,
}

impl<'a> Dev<'a> {
    /// Of the tree, with `/dev` below `dev_root`.
    pub(crate) fn new(root: &'a Root, dev_root: &Path) -> Self {
        let devices = root.read_to_string("/proc/devices").unwrap_or_default();
        let params = root
            .read_to_string("/proc/driver/nvidia/params")
            .unwrap_or_default();
        Self {
            root,
            below: dev_root.to_owned(),
            majors: majors(&devices),
            owner: owner(&params),
            missing: RefCell::default(),
        }
    }

    /// Host paths of the nodes that were made up because the host lacks them.
    pub(crate) fn missing(&self) -> Vec<PathBuf> {
        self.missing.borrow().iter().cloned().collect()
    }

    /// Where the host has what a container sees at `path`.
    pub(crate) fn host_path(&self, path: &Path) -> PathBuf {
        self.below.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The node at `path` (as a container sees it), if the host has one.
    pub(crate) fn at(&self, path: &Path) -> Option<DeviceNode> {
        let host_path = self.host_path(path);
        let found = self.root.metadata(&host_path).ok()?;
        if !found.file_type().is_char_device() {
            return None;
        }
        Some(DeviceNode {
            path: path.to_owned(),
            host_path,
            major: number(major(found.rdev())),
            minor: number(minor(found.rdev())),
            mode: found.mode() & 0o7777,
            uid: found.uid(),
            gid: found.gid(),
        })
    }

    /// The nodes whose container paths fit a pattern, in order of names.
    pub(crate) fn fitting(&self, pattern: &str) -> Vec<DeviceNode> {
        let host = self.host_path(Path::new(pattern));
        glob::expand(self.root, &host)
            .iter()
            .filter_map(|p| self.at(&Path::new("/").join(p.strip_prefix(&self.below).ok()?)))
            .collect()
    }

    /// The node at `path`, made up where the host has none.
    fn at_or(&self, path: PathBuf, major: u32, minor: u32, mode: Option<u32>) -> DeviceNode {
        self.at(&path).unwrap_or_else(|| {
            let host_path = self.host_path(&path);
            self.missing.borrow_mut().insert(host_path.clone());
            let Owner {
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

    /// `/dev/nvidiaN`; as the driver would make it where the host has none yet.
    pub(crate) fn gpu(&self, minor: u32) -> DeviceNode {
        let path = Path::new("/dev").join(format!("nvidia{minor}"));
        self.at_or(path, self.nvidia_major(), minor, None)
    }

    /// `/dev/nvidia-caps/nvidia-capN`; its mode is what the capability's file says.
    pub(crate) fn capability(&self, minor: u32, mode: Option<u32>) -> Option<DeviceNode> {
        let path = PathBuf::from(format!("/dev/nvidia-caps/nvidia-cap{minor}"));
        match self.majors.get("nvidia-caps") {
            Some(major) => Some(self.at_or(path, *major, minor, mode)),
            None => self.at(&path),
        }
    }

    /// Nodes that belong to no single GPU.
    ///
    /// Which capability needs which: libnvidia-container `nvc_info.c` and
    /// nvidia-container-toolkit `pkg/nvcdi` (both 1.17): modeset for graphics and
    /// display, uvm for compute, nvidiactl for all. A module that is not loaded gives no
    /// node: opening one without a driver behind it fails.
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
                    Some((major, minor)) => self.at_or(path.into(), major, minor, None),
                    None => self.at(Path::new(path))?,
                };
                Some(ControlNode { node, capabilities })
            })
            .collect()
    }

    /// `nvidia`, `nvidia-frontend` up to branch 545.
    fn nvidia_major(&self) -> u32 {
        ["nvidia", "nvidia-frontend"]
            .iter()
            .find_map(|name| self.majors.get(*name).copied())
            .unwrap_or(NVIDIA_MAJOR)
    }
}

/// `MAJOR name` lines of the character devices (`proc_devices(5)`).
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

/// `DeviceFileMode`, `-UID` and `-GID` (driver README, ch. "Device files").
fn owner(params: &str) -> Owner {
    let value = |key: &str| {
        params
            .lines()
            .filter_map(|l| l.split_once(':'))
            .find(|(k, _)| k.trim() == key)
            .and_then(|(_, v)| v.trim().parse::<u32>().ok())
    };
    Owner {
        mode: value("DeviceFileMode").unwrap_or(0o666) & 0o777,
        uid: value("DeviceFileUID").unwrap_or(0),
        gid: value("DeviceFileGID").unwrap_or(0),
    }
}

fn number(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
