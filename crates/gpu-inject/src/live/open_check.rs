//! Finds out whether a container may open its device nodes, by asking the kernel from within its cgroup.
//!
//! For access(2) the kernel checks the device rules as for open(2), but the driver is not called. The kernel applies
//! the rules of the calling process's cgroup, so this process moves to the container's cgroup and back.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use gpu_host::DeviceNode;
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use super::cgroup_paths::PROCESSES;

/// Returns the nodes that a process in `cgroup` may not open. `home` is the cgroup of this process.
///
/// Nodes that do not exist on the host cannot be checked and are never returned. Fails without entering a frozen cgroup:
/// this process would stand still until somebody thaws it.
pub(super) fn refused<'a>(
    cgroup: &Path,
    home: &Path,
    nodes: &'a [DeviceNode],
) -> io::Result<Vec<&'a DeviceNode>> {
    ensure_not_frozen(cgroup)?;
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

/// Fails if the cgroup or one above it is frozen, as that of a paused container is.
fn ensure_not_frozen(cgroup: &Path) -> io::Result<()> {
    // Linux, Documentation/admin-guide/cgroup-v2.rst, "cgroup.events"; cgroup-v1/freezer-subsystem.rst, "freezer.state".
    // In v1, device rules and the freezer share a directory only where they are mounted together.
    for (file, frozen) in [("cgroup.events", "frozen 1"), ("freezer.state", "FROZEN")] {
        let text = match fs::read_to_string(cgroup.join(file)) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        if text.lines().any(|line| line.trim() == frozen) {
            return Err(io::Error::other(
                "the container is paused; ask again after it runs on",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_frozen_cgroup_is_never_entered() {
        for (file, text) in [
            ("cgroup.events", "populated 1\nfrozen 1\n"),
            ("freezer.state", "FROZEN\n"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(file), text).unwrap();
            fs::write(dir.path().join(PROCESSES), "").unwrap();
            let error = refused(dir.path(), dir.path(), &[]).unwrap_err();
            assert!(error.to_string().contains("paused"), "{error}");
            assert_eq!(fs::read(dir.path().join(PROCESSES)).unwrap(), b"");
            fs::write(dir.path().join(file), "populated 1\nfrozen 0\n").unwrap();
            refused(dir.path(), dir.path(), &[]).unwrap();
            assert_eq!(fs::read(dir.path().join(PROCESSES)).unwrap(), b"0");
        }
    }
}
