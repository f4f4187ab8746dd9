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

use nix::errno::Errno;
use nix::sys::stat::{major, minor};

use crate::host::Host;
use crate::host::answer::{Answer, names_in};

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
/// known; `None` if there are none.
pub fn containers_losing_gpus(host: &Host) -> Answer<Vec<String>> {
    match losing(host) {
        Ok(names) if names.is_empty() => Answer::None,
        Ok(names) => Answer::Known(names),
        Err(why) => Answer::Unknown(why),
    }
}

fn losing(host: &Host) -> Result<Vec<String>, String> {
    let mut containers = Vec::new();
    for name in names_in(host.root(), Path::new(TRANSIENT))? {
        let Some(name) = name.to_str().filter(|n| is_scope(n)) else {
            continue;
        };
        let unit = unit_text(host, name)?;
        let Some(pid) = pid_in(host, &cgroup_of(name, &unit))? else {
            continue;
        };
        if nodes_of(pid)?.iter().any(|node| is_lost(&unit, node)) {
            containers.push(container_of(host, name));
        }
    }
    containers.sort();
    Ok(containers)
}

fn is_scope(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|e| e == "scope")
}

/// The text of the unit and its drop-ins, as systemd will read it.
fn unit_text(host: &Host, name: &str) -> Result<String, String> {
    let mut files = vec![Path::new(TRANSIENT).join(name)];
    for dir in [TRANSIENT, CONTROL] {
        let dir = Path::new(dir).join(format!("{name}.d"));
        let names = names_in(host.root(), &dir)?;
        files.extend(names.iter().map(|n| dir.join(n)));
    }
    let mut text = String::new();
    for file in files {
        // A scope that ends just now has no file any more.
        if let Some(part) = Answer::from(host.root().read_to_string(file)).value()? {
            text.push_str(&part);
            text.push('\n');
        }
    }
    Ok(text)
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

/// The GPU nodes in the /dev of a process; none once it has ended. `Root` would resolve the magic
/// link as the path it shows, which is our own `/`. Here, names are listed and inspected; nothing is
/// followed or opened.
fn nodes_of(pid: u32) -> Result<Vec<ContainerNode>, String> {
    let dev = PathBuf::from(format!("/proc/{pid}/root/dev"));
    let at = |e: std::io::Error| std::io::Error::new(e.kind(), format!("{}: {e}", dev.display()));
    let kind = Answer::from(dev.symlink_metadata().map_err(at)).value()?;
    if !kind.is_some_and(|m| m.is_dir()) {
        return Ok(Vec::new());
    }
    let mut nodes = Vec::new();
    let entries = Answer::from(fs::read_dir(&dev).map_err(at)).value()?;
    for entry in entries.into_iter().flatten() {
        let entry = entry.map_err(|e| at(e).to_string())?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("nvidia") {
            continue;
        }
        let metadata = Answer::from(entry.metadata().map_err(at)).value()?;
        if let Some(metadata) = metadata.filter(|m| m.file_type().is_char_device()) {
            nodes.push(ContainerNode {
                major: major(metadata.rdev()),
                minor: minor(metadata.rdev()),
                name,
            });
        }
    }
    Ok(nodes)
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
fn pid_in(host: &Host, cgroup: &Path) -> Result<Option<u32>, String> {
    let root = host.root();
    let mut places = HIERARCHIES.iter().map(|h| Path::new(h).join(cgroup));
    let Some(dir) = places.find(|d| root.exists(d.join("cgroup.procs"))) else {
        return Ok(None);
    };
    let mut dirs = vec![dir];
    while let Some(dir) = dirs.pop() {
        if let Some(pid) = first_pid(root.read_to_string(dir.join("cgroup.procs")))? {
            return Ok(Some(pid));
        }
        for name in names_in(host.root(), &dir)? {
            let below = dir.join(name);
            let kind = Answer::from(root.symlink_metadata(&below)).value()?;
            if kind.is_some_and(|m| m.is_dir()) {
                dirs.push(below);
            }
        }
    }
    Ok(None)
}

/// The first process of a list of the kernel's; `None` also if the cgroup has ended meanwhile
/// (ENODEV), or is a threaded one, whose processes its parent lists (EOPNOTSUPP; cgroups(7)).
fn first_pid(list: std::io::Result<String>) -> Result<Option<u32>, String> {
    let none = [Errno::ENODEV, Errno::EOPNOTSUPP].map(|e| std::io::Error::from(e).to_string());
    if let Err(e) = &list
        && none.iter().any(|none| e.to_string().ends_with(none))
    {
        return Ok(None);
    }
    let list = Answer::from(list).value()?.unwrap_or_default();
    let Some(first) = list.lines().next() else {
        return Ok(None);
    };
    let pid = first.parse().map(Some);
    pid.map_err(|_| format!("cgroup.procs: {first:?} is no process"))
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
