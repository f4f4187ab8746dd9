//! Finds out whether a container may open its device nodes, by asking the kernel from within its cgroup.
//!
//! For access(2) the kernel checks the device rules as for open(2), but the driver is not called. The kernel applies
//! the rules of the calling process's cgroup, so this process moves to the container's cgroup and back.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use gpu_host::DeviceNode;
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use super::cgroup_paths::PROCESSES;

/// Returns the nodes that a process in `cgroup` may not open. `home` is the cgroup of this process.
///
/// Nodes that do not exist on the host cannot be checked and are never returned.
pub(super) fn refused<'a>(
    cgroup: &Path,
    home: &Path,
    nodes: &'a [DeviceNode],
) -> io::Result<Vec<&'a DeviceNode>> {
    enter(cgroup)?;
    let both = AccessFlags::R_OK | AccessFlags::W_OK;
    // `EACCES` comes from the mode of the node, not from the cgroup.
    let is_refused = |node: &&DeviceNode| access(&node.host_path, both) == Err(Errno::EPERM);
    let refused = nodes.iter().filter(is_refused).collect();
    enter(home)?;
    Ok(refused)
}

/// Moves this process to the cgroup.
fn enter(cgroup: &Path) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .open(cgroup.join(PROCESSES))
        // 0 stands for the process that writes (cgroups(7)).
        .and_then(|mut f| f.write_all(b"0"))
}
