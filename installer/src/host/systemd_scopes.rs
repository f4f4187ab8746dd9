//! Finds the running containers that would lose their GPUs in a `systemctl daemon-reload`.
//!
//! On a reload, systemd rebuilds the device rules of a container's scope from the unit alone. Two
//! kinds of containers can open their GPUs until then and never again: those that got them without
//! systemd's knowledge, from a hook (nvidia-docker #1730, toolkit #48), and those started without
//! the /dev/char links that runc up to 1.1 relies on (toolkit #1227).

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::stat::{major, minor};

use crate::host::Host;

/// Where systemd keeps transient units, which other programs had it create, and the properties that
/// were set on them later (systemd.unit(5), "Unit File Load Path").
const TRANSIENT: &str = "/run/systemd/transient";
const CONTROL: &str = "/run/systemd/system.control";
/// Where systemd's cgroup hierarchy can be mounted.
const HIERARCHIES: [&str; 3] = [
    "/sys/fs/cgroup",
    "/sys/fs/cgroup/systemd",
    "/sys/fs/cgroup/unified",
];
/// Prefixes of scopes that are named after a container's ID, each with the program that tells the
/// container's name.
const NAMED: [(&str, &str); 2] = [("docker-", "docker"), ("libpod-", "podman")];

/// Names of the containers that would lose their GPUs, or of their scopes if the engine is not
/// known.
pub fn containers_losing_gpus(host: &Host) -> Vec<String> {
    let root = host.root();
    let mut containers = Vec::new();
    for name in root.read_dir(TRANSIENT).unwrap_or_default() {
        let Some(name) = name.to_str().filter(|n| is_scope(n)) else {
            continue;
        };
        let unit = unit_text(host, name);
        let Some(pid) = pid_in(host, &cgroup_of(name, &unit)) else {
            continue;
        };
        if nodes_of(pid).iter().any(|node| is_lost(&unit, node)) {
            containers.push(container_of(host, name));
        }
    }
    containers.sort();
    containers
}

fn is_scope(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|e| e == "scope")
}

/// The text of the unit and its drop-ins, as systemd will read it.
fn unit_text(host: &Host, name: &str) -> String {
    let root = host.root();
    let mut files = vec![Path::new(TRANSIENT).join(name)];
    for dir in [TRANSIENT, CONTROL] {
        let dir = Path::new(dir).join(format!("{name}.d"));
        let names = root.read_dir(&dir).unwrap_or_default();
        files.extend(names.iter().map(|n| dir.join(n)));
    }
    let texts = files.iter().filter_map(|f| root.read_to_string(f).ok());
    texts.map(|t| t + "\n").collect()
}

/// A GPU's device node in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ContainerNode {
    name: String,
    major: u64,
    minor: u64,
}

/// Whether that node can no longer be opened once systemd has rebuilt the rules from the unit.
fn is_lost(unit: &str, node: &ContainerNode) -> bool {
    let values = |key: &'static str| {
        unit.lines()
            .filter_map(move |l| l.trim().strip_prefix(key)?.strip_prefix('='))
    };
    let is_strict = values("DevicePolicy")
        .next_back()
        .is_some_and(|p| p == "strict" || p == "closed");
    let allowed: Vec<&str> = values("DeviceAllow").filter(|v| !v.is_empty()).collect();
    // With neither setting, everything is allowed (systemd.resource-control(5), "DevicePolicy").
    if !is_strict && allowed.is_empty() {
        return false;
    }
    let number = format!("/dev/char/{}:{}", node.major, node.minor);
    let path = format!("/dev/{}", node.name);
    let names_it = |rule: &str| {
        let mut words = rule.split_whitespace();
        let device = words.next().unwrap_or_default();
        // `char-* m` is in every container's rules: it allows making nodes, not opening them.
        let opens = words.next().is_none_or(|access| access.contains('r'));
        opens
            && (device == number
                || device == path
                || device == "char-*"
                || device.starts_with("char-nvidia")
                || device == format!("char-{}", node.major))
    };
    !allowed.into_iter().any(names_it)
}

/// The GPU nodes in the /dev of a process. `Root` would resolve the magic link as the path it
/// shows, which is our own `/`. Here, names are listed and inspected; nothing is followed or
/// opened.
fn nodes_of(pid: u32) -> Vec<ContainerNode> {
    let dev = PathBuf::from(format!("/proc/{pid}/root/dev"));
    if !dev.symlink_metadata().is_ok_and(|m| m.is_dir()) {
        return Vec::new();
    }
    let entries = fs::read_dir(dev).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name().to_str()?.to_owned();
            let metadata = entry
                .metadata()
                .ok()
                .filter(|_| name.starts_with("nvidia"))?;
            metadata
                .file_type()
                .is_char_device()
                .then(|| ContainerNode {
                    major: major(metadata.rdev()),
                    minor: minor(metadata.rdev()),
                    name,
                })
        })
        .collect()
}

/// The path of a scope's cgroup below a hierarchy: `a-b.slice` lies in `a.slice`
/// (systemd.slice(5)).
fn cgroup_of(name: &str, unit: &str) -> PathBuf {
    let slice = unit
        .lines()
        .filter_map(|l| l.trim().strip_prefix("Slice="))
        .next_back()
        .unwrap_or("system.slice");
    let stem = slice.strip_suffix(".slice").unwrap_or(slice);
    let mut path = PathBuf::new();
    let mut at = String::new();
    for part in stem.split('-').filter(|p| !p.is_empty()) {
        if !at.is_empty() {
            at.push('-');
        }
        at.push_str(part);
        path.push(format!("{at}.slice"));
    }
    path.join(name)
}

/// A process in that cgroup or in one below it.
fn pid_in(host: &Host, cgroup: &Path) -> Option<u32> {
    let root = host.root();
    let dir = HIERARCHIES
        .iter()
        .map(|h| Path::new(h).join(cgroup))
        .find(|d| root.exists(d.join("cgroup.procs")))?;
    let mut dirs = vec![dir];
    while let Some(dir) = dirs.pop() {
        let pids = root.read_to_string(dir.join("cgroup.procs"));
        let first = pids.ok().and_then(|p| p.lines().next()?.parse().ok());
        if first.is_some() {
            return first;
        }
        let names = root.read_dir(&dir).unwrap_or_default();
        let below = names.iter().map(|n| dir.join(n));
        dirs.extend(below.filter(|d| root.symlink_metadata(d).is_ok_and(|m| m.is_dir())));
    }
    None
}

fn container_of(host: &Host, scope: &str) -> String {
    let stem = scope.strip_suffix(".scope").unwrap_or(scope);
    for (prefix, program) in NAMED {
        let Some(id) = stem.strip_prefix(prefix) else {
            continue;
        };
        let argv = [program, "inspect", "--format", "{{.Name}}", id];
        if let Ok(out) = host.run(&argv, Duration::from_secs(10))
            && out.has_succeeded()
        {
            return out.stdout.trim().trim_start_matches('/').to_owned();
        }
    }
    scope.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: &str = "[Scope]\nSlice=system.slice\nDevicePolicy=strict\nDeviceAllow=\n\
        DeviceAllow=/dev/char/1:3 rwm\nDeviceAllow=char-pts rwm\nDeviceAllow=char-* m\n";

    fn node(name: &str, minor: u64) -> ContainerNode {
        ContainerNode {
            name: name.into(),
            major: 195,
            minor,
        }
    }

    #[test]
    fn a_node_that_the_unit_does_not_allow_is_lost() {
        let gpu = node("nvidia1", 1);
        assert!(is_lost(STRICT, &gpu));
        for allowed in [
            "/dev/char/195:1 rw",
            "/dev/nvidia1 rw",
            "char-nvidia-frontend rw",
            "char-195 rw",
            "char-* rwm",
        ] {
            let unit = format!("{STRICT}DeviceAllow={allowed}\n");
            assert!(!is_lost(&unit, &gpu), "{allowed}");
        }
        let other = format!("{STRICT}DeviceAllow=/dev/char/195:11 rw\n");
        assert!(is_lost(&other, &gpu));
        // A privileged container and a login session have no rules, so nothing is lost.
        assert!(!is_lost("[Scope]\nDevicePolicy=auto\nDeviceAllow=\n", &gpu));
        assert!(!is_lost("", &gpu));
    }

    #[test]
    fn slices_are_nested_by_name() {
        let unit = "[Scope]\nSlice=kubepods-besteffort-pod1.slice\n";
        assert_eq!(
            cgroup_of("cri-containerd-1.scope", unit),
            Path::new(
                "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice/cri-containerd-1.scope"
            )
        );
        assert_eq!(cgroup_of("a.scope", ""), Path::new("system.slice/a.scope"));
        assert_eq!(
            cgroup_of("a.scope", "Slice=-.slice\n"),
            Path::new("a.scope")
        );
    }
}
