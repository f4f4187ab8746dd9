//! Daemons that run with a copy of /etc. rootlesskit puts links to all that was in /etc when it started into a tmpfs of
//! its own, so a directory that is made later is not there until it is started again.

use std::path::Path;

use gpu_host::Root;

use crate::host::Host;

/// The daemons of engines that start containers with our runtime, as the kernel names them.
const DAEMONS: [&str; 3] = ["dockerd", "containerd", "k3s-server"];

/// A daemon in whose /etc something is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedEtc {
    /// Its program.
    pub program: String,
    /// Its process.
    pub pid: u32,
    /// The user that it belongs to.
    pub user: String,
}

impl CopiedEtc {
    /// The daemons of this host in whose own /etc that entry of /etc is missing. One of several in the same namespace is
    /// named.
    pub fn without(host: &Host, entry: &Path) -> Vec<Self> {
        let root = host.root();
        if !host.is_live() || !root.exists(entry) {
            return Vec::new();
        }
        let names = root.read_dir("/proc").unwrap_or_default();
        let pids = names.iter().filter_map(|n| n.to_str()?.parse::<u32>().ok());
        let mut seen = Vec::new();
        let mut found = Vec::new();
        for pid in pids {
            let text = |name: &str| root.read_to_string(format!("/proc/{pid}/{name}"));
            let program = text("comm").unwrap_or_default().trim().to_owned();
            let mounts = text("mountinfo").unwrap_or_default();
            if !DAEMONS.contains(&&*program) || !is_copied(&mounts, entry) {
                continue;
            }
            let is_missing = Root::of_process(pid).is_ok_and(|its| {
                let looked = its.symlink_metadata(entry);
                looked.is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
            });
            let namespace = root.read_link(format!("/proc/{pid}/ns/mnt")).ok();
            if !is_missing || seen.contains(&namespace) {
                continue;
            }
            seen.push(namespace);
            let status = text("status").unwrap_or_default();
            let passwd = root.read_to_string("/etc/passwd").unwrap_or_default();
            let user = owner(&status, &passwd);
            found.push(Self { program, pid, user });
        }
        found
    }
}

/// Whether /etc is a tmpfs of that namespace, and nothing else is mounted at the entry: a look at a user's own file system
/// could take for ever.
fn is_copied(mountinfo: &str, entry: &Path) -> bool {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (mount, of) = line.split_once(" - ")?;
        Some((Path::new(mount.split(' ').nth(4)?), of.split(' ').next()?))
    });
    let mut kind = None;
    for (point, file_system) in mounts {
        if point.starts_with(entry) {
            return false;
        }
        if point == Path::new("/") && file_system.starts_with("fuse") {
            return false;
        }
        if point == Path::new("/etc") {
            kind = Some(file_system);
        }
    }
    kind == Some("tmpfs")
}

/// The user with the first UID of /proc/PID/status.
fn owner(status: &str, passwd: &str) -> String {
    let uid = status.lines().find_map(|l| l.strip_prefix("Uid:"));
    let uid = uid.and_then(|ids| ids.split_whitespace().next());
    let uid = uid.unwrap_or("?");
    let named = passwd.lines().find(|l| l.split(':').nth(2) == Some(uid));
    let name = named.and_then(|l| l.split(':').next());
    name.unwrap_or(uid).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = "/etc/nvidia-container-runtime";

    fn mounts(more: &str) -> bool {
        let host = "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n";
        is_copied(&format!("{host}{more}"), Path::new(ENTRY))
    }

    #[test]
    fn a_tmpfs_over_etc_is_a_copy() {
        let tmpfs = "90 22 0:40 / /etc rw,relatime - tmpfs tmpfs rw,uid=1000\n";
        assert!(mounts(tmpfs));
        assert!(!mounts(""));
        assert!(!mounts(&tmpfs.replace("tmpfs", "overlay")));
    }

    #[test]
    fn what_a_user_serves_is_not_looked_at() {
        let tmpfs = "90 22 0:40 / /etc rw,relatime - tmpfs tmpfs rw,uid=1000\n";
        let at = |point: &str| format!("{tmpfs}91 90 0:41 / {point} rw - fuse.x x rw\n");
        assert!(!mounts(&at(ENTRY)));
        assert!(!mounts(&at("/")));
        assert!(mounts(&at("/etc/other")));
    }

    #[test]
    fn the_owner_is_named() {
        let status = "Name:\tdockerd\nUid:\t1000\t1000\t1000\t1000\n";
        assert_eq!(
            owner(status, "root:x:0:0::/:\nalice:x:1000:1000::/:\n"),
            "alice"
        );
        assert_eq!(owner(status, ""), "1000");
    }
}
