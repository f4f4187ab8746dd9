//! Allows devices in cgroup v2, where all attached eBPF programs must allow a device. Each attached program is
//! replaced by a program that first allows our devices and then continues with the original instructions.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use gpu_host::DeviceNode;

use super::cgroup_paths::{below, cgroup_mounts, cgroups_upward};
use super::device_program::{self, MAX_DEVICES, with_devices};
use super::device_rules;
use crate::error::Error;
use crate::linux::bpf::{self, Insn};

/// Maximum number of times that the programs of a cgroup are changed because one was replaced meanwhile.
const MAX_TRIES: usize = 4;

/// The container's directory in the v2 tree.
pub(super) fn directory(cgroup: &str, mountinfo: &str) -> Option<PathBuf> {
    let path = cgroup.lines().find_map(|l| l.strip_prefix("0::"))?;
    cgroup_mounts(mountinfo)
        .filter(|(_, _, kind, _)| *kind == "cgroup2")
        .find_map(|(root, point, ..)| below(root, point, path))
}

/// Allows the nodes in each program of these cgroups, which are the container's own. `leaf` is the cgroup of its
/// processes. Returns whether these are all the programs that its processes are subject to.
pub(super) fn allow(
    leaf: &Path,
    own: &[PathBuf],
    nodes: &[DeviceNode],
    config: Option<&Path>,
) -> Result<Covered, Error> {
    let mut replaced = Vec::new();
    for dir in own {
        replaced.extend(allow_in(dir, nodes, config)?);
    }
    // Queried after the replacement, so that programs attached meanwhile count as well.
    let effective = bpf::effective_device_programs(open(leaf)?.as_fd())
        .map_err(failed(leaf, "ask for the device programs that apply"))?;
    let is_all =
        effective.len() == replaced.len() && !effective.iter().any(|id| replaced.contains(id));
    Ok(if is_all {
        Covered::Every
    } else {
        Covered::NotAll
    })
}

/// Whether every device program that a container is subject to lets its nodes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Covered {
    /// Every program is ours, or there are no programs.
    Every,
    /// There are other programs, and which devices they allow is not known.
    NotAll,
}

/// Allows the nodes in the programs of one cgroup. Returns the ids of the programs that were replaced.
fn allow_in(dir: &Path, nodes: &[DeviceNode], config: Option<&Path>) -> Result<Vec<u32>, Error> {
    let cgroup = open(dir)?;
    let mut tries = 1;
    loop {
        let (ids, flags) = bpf::device_programs(cgroup.as_fd())
            .map_err(failed(dir, "ask for the cgroup's device programs"))?;
        if !ids.is_empty() && nodes.len() > MAX_DEVICES {
            let why = format!(
                "{} device nodes: one of the kernel's device programs lets {MAX_DEVICES} through; ask for fewer GPUs",
                nodes.len()
            );
            return Err(Error::State(why.into()));
        }
        // config.json says what the runtime's program allows. Of several, one is somebody else's, who may allow less.
        let config = config.filter(|_| ids.len() == 1);
        let mut is_gone = false;
        for id in &ids {
            is_gone |= !allow_in_program(dir, cgroup.as_fd(), *id, flags, nodes, config)?;
        }
        if !is_gone {
            return Ok(ids);
        }
        // systemd replaces a scope's program at a daemon-reload.
        tries += 1;
        if tries > MAX_TRIES {
            let why = format!(
                "{}: its device program was replaced {MAX_TRIES} times meanwhile",
                dir.display()
            );
            return Err(Error::State(why.into()));
        }
    }
}

/// Replaces one program of the cgroup by one that allows the nodes as well. False if it is not there any more.
fn allow_in_program(
    dir: &Path,
    cgroup: BorrowedFd<'_>,
    id: u32,
    flags: u32,
    nodes: &[DeviceNode],
    config: Option<&Path>,
) -> Result<bool, Error> {
    let is_gone = |e: &io::Error| e.raw_os_error() == Some(libc::ENOENT);
    let old = match bpf::program(id) {
        Err(e) if is_gone(&e) => return Ok(false),
        old => old.map_err(failed(dir, "open device program"))?,
    };
    let code = bpf::instructions(old.as_fd()).map_err(failed(dir, "read device program"))?;
    let rest = match code {
        Some(code) if !device_program::is_blinded(&code) => code,
        changed => generated_again(dir, changed, config)?,
    };
    let new = bpf::load(&with_devices(nodes, &rest)).map_err(failed(dir, "load device program"))?;
    match bpf::replace(cgroup, old.as_fd(), new.as_fd(), flags) {
        Err(e) if is_gone(&e) => Ok(false),
        done => done
            .map(|()| true)
            .map_err(failed(dir, "replace device program")),
    }
}

/// Generates the program again that the runtime made from config.json, because the kernel has changed the runtime's
/// instructions (`code`) or hides them.
fn generated_again(
    dir: &Path,
    code: Option<Vec<Insn>>,
    config: Option<&Path>,
) -> Result<Vec<Insn>, Error> {
    if let Some(config) = config {
        return Ok(device_program::by_rules(&device_rules::of_config(config)?));
    }
    code.and_then(device_program::unblinded).ok_or_else(|| {
        let why = format!(
            "{}: the kernel hides the instructions of the cgroup's device program, and no config.json says what it alone \
             allows; net.core.bpf_jit_harden = 1 or kernel.kptr_restrict = 1 shows them (sysctl)",
            dir.display()
        );
        Error::State(why.into())
    })
}

/// This cgroup and its ancestors, outermost last, as far as they have device programs of their own.
pub(super) fn with_programs(leaf: &Path) -> Vec<PathBuf> {
    cgroups_upward(leaf)
        .filter(|dir| {
            let programs = open(dir).map(|cgroup| bpf::device_programs(cgroup.as_fd()));
            programs.is_ok_and(|programs| programs.is_ok_and(|(ids, _)| !ids.is_empty()))
        })
        .map(Path::to_owned)
        .collect()
}

fn open(dir: &Path) -> Result<File, Error> {
    File::open(dir).map_err(Error::host(dir))
}

fn failed<'a>(dir: &'a Path, what: &'a str) -> impl FnOnce(std::io::Error) -> Error + 'a {
    Error::system(format!("{}: {what}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unified_tree_is_found() {
        let mounts = "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let scope_dir = directory("0::/system.slice/docker-1.scope\n", mounts);
        assert_eq!(
            scope_dir,
            Some("/sys/fs/cgroup/system.slice/docker-1.scope".into())
        );
    }
}
