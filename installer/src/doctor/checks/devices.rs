//! Checks of device nodes: whether they are there and right, and whether systemd knows them.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use gpu_inject::generate::host_files;
use nix::sys::stat::major;

use crate::doctor::checks::check::{Checks, evidence};
use crate::doctor::facts::HostFacts;
use crate::doctor::remedy::{Remedies, Remedy};
use crate::engines::engine;
use crate::error::invocation::Invocation;
use crate::host::answer::Answer;
use crate::host::systemd_scopes;
use crate::setup::{dev_char, driver_answer};

pub const CHECKS: Checks = &[
    ("gpu-left-out", left_out),
    ("devices-missing", missing),
    ("uvm-not-loaded", uvm),
    ("device-stale", stale),
    ("device-no-node", no_node),
    ("device-mode", mode),
    ("dev-char", links),
];

pub const REMEDIES: Remedies = &[
    ("uvm-not-loaded", load_uvm),
    ("device-stale", make_anew),
    ("device-no-node", clear),
    ("device-mode", in_group),
];

const UVM: &str = "/dev/nvidia-uvm";

fn left_out(look: &HostFacts) -> Option<String> {
    evidence(driver_answer::findings(look.loaded()?))
}

fn missing(look: &HostFacts) -> Option<String> {
    let inventory = look.loaded()?;
    let missing = missing_nodes(look, inventory);
    let names: Vec<String> = missing.iter().map(|p| p.display().to_string()).collect();
    evidence(names)
}

/// Missing nodes that containers would get. Something else at the path of a node is another
/// problem, `device-no-node`.
fn missing_nodes(look: &HostFacts, inventory: &gpu_host::Inventory) -> Vec<PathBuf> {
    let root = look.host.root();
    let is_wanted = |p: &&PathBuf| host_files::nodes(inventory).any(|n| n.host_path == **p);
    let mut missing: Vec<PathBuf> = inventory
        .missing_nodes
        .iter()
        .filter(is_wanted)
        .cloned()
        .collect();
    missing.retain(|p| root.symlink_metadata(p).is_err());
    missing
}

fn uvm(look: &HostFacts) -> Option<String> {
    look.loaded()?;
    let knows = devices(look).iter().any(|(_, name)| name == "nvidia-uvm");
    if !look.is_plain() || knows || look.exists("/sys/module/nvidia_uvm") {
        return None;
    }
    Some("/proc/devices has no nvidia-uvm".into())
}

/// Major numbers and names of character devices (proc(5), /proc/devices).
fn devices(look: &HostFacts) -> Vec<(u64, String)> {
    let text = look.text("/proc/devices").unwrap_or_default();
    let characters = text.split("Block devices").next().unwrap_or_default();
    let pairs = characters.lines().filter_map(|l| {
        let (number, name) = l.trim().split_once(' ')?;
        Some((number.parse().ok()?, name.trim().to_owned()))
    });
    pairs.collect()
}

fn stale(look: &HostFacts) -> Option<String> {
    look.loaded()?;
    let node = look.host.root().symlink_metadata(UVM).ok()?;
    let wanted = devices(look)
        .into_iter()
        .find(|(_, name)| name == "nvidia-uvm")?
        .0;
    let is = major(node.rdev());
    (node.file_type().is_char_device() && is != wanted)
        .then(|| format!("{UVM} has major {is}, the driver has {wanted}"))
}

/// Paths of nodes at which something else is, and whether that is a directory.
fn not_nodes(look: &HostFacts) -> Vec<(PathBuf, bool)> {
    let nodes = look.loaded().into_iter().flat_map(host_files::nodes);
    let wrong = nodes.filter_map(|node| {
        let metadata = look.host.root().symlink_metadata(&node.host_path).ok()?;
        let kind = metadata.file_type();
        (kind.is_dir() || kind.is_file()).then(|| (node.host_path.clone(), kind.is_dir()))
    });
    let mut wrong: Vec<_> = wrong.collect();
    wrong.dedup();
    wrong
}

fn no_node(look: &HostFacts) -> Option<String> {
    let findings = not_nodes(look).into_iter().map(|(path, is_dir)| {
        let what = if is_dir {
            "a directory"
        } else {
            "a plain file"
        };
        format!("{} is {what}", path.display())
    });
    evidence(findings.collect())
}

fn clear(look: &HostFacts, usual: Remedy) -> Remedy {
    let mut steps = Vec::new();
    for (path, is_dir) in not_nodes(look) {
        let program = if is_dir { "rmdir" } else { "rm" };
        steps.push(format!("{program} {}", path.display()));
    }
    steps.push(Invocation::CreateDeviceNodes.to_string());
    usual.by(steps.join(" && "))
}

fn make_anew(look: &HostFacts, usual: Remedy) -> Remedy {
    let nodes = [UVM, "/dev/nvidia-uvm-tools"];
    let nodes: Vec<&str> = nodes.into_iter().filter(|n| look.exists(n)).collect();
    usual.by(format!(
        "rm {} && {}",
        nodes.join(" "),
        Invocation::CreateDeviceNodes
    ))
}

fn load_uvm(look: &HostFacts, usual: Remedy) -> Remedy {
    match look.module_name("nvidia-uvm") {
        Some(module) => usual.by(format!("modprobe {module}")),
        None => usual,
    }
}

/// Only Podman has the option of the command.
fn in_group(look: &HostFacts, usual: Remedy) -> Remedy {
    usual.by_command_if(look.engine("podman").is_some())
}

fn mode(look: &HostFacts) -> Option<String> {
    look.loaded()?;
    let nodes = ["/dev/nvidiactl", "/dev/nvidia0", UVM];
    let findings = nodes.iter().filter_map(|path| {
        let metadata = look.host.root().metadata(path).ok()?;
        let is_closed = metadata.file_type().is_char_device() && metadata.mode() & 0o006 != 0o006;
        is_closed.then(|| format!("{path} has mode {:04o}", metadata.mode() & 0o7777))
    });
    evidence(findings.collect())
}

fn links(look: &HostFacts) -> Option<String> {
    let inventory = look.loaded().filter(|_| look.has_systemd())?;
    look.engines().first()?;
    // From 1.2 on runc names devices by their numbers. A runc of unknown version may be older.
    let runc = look.package("runc").map(|v| engine::major_minor(&v));
    if runc.is_some_and(|v| v >= (1, 2)) && look.receipt().is_none() {
        return None;
    }
    let links = look.ok(dev_char::links(look.host, inventory))?;
    let first = links.first()?;
    let mut text = match links.len() {
        1 => format!("no link {}", first.path.display()),
        n => format!("{n} links are missing, {} the first", first.path.display()),
    };
    // Only a live host has running containers; a directory tree has none.
    if look.host.is_live() {
        match systemd_scopes::containers_losing_gpus(look.host) {
            Answer::Known(names) => {
                let names = names.join(", ");
                text.push_str(&format!("; it would take them from {names}"));
            }
            Answer::None => {}
            Answer::Unknown(why) => {
                text.push_str(&format!(
                    "; from which containers it would is not known: {why}"
                ));
            }
        }
    }
    Some(text)
}
