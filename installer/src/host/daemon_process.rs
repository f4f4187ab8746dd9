//! Finds the processes of a daemon on this host, and who has started each: a unit, a user's service manager, or somebody
//! by hand.

use std::path::PathBuf;

use crate::host::Host;
use crate::host::answer::Answer;

/// A running daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonProcess {
    /// Its process.
    pub pid: u32,
    /// Its command line.
    pub argv: Vec<String>,
    /// The program that it runs.
    pub program: PathBuf,
    /// In whose control group it is.
    pub owner: Answer<ProcessOwner>,
    /// The name of the process that has started it.
    pub parent: Option<String>,
}

/// In whose control group a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessOwner {
    /// That of a unit of the system's.
    Unit(String),
    /// That of a unit of a user's service manager.
    UserUnit(String),
    /// That of no service: a login session, or none at all.
    Nobody,
}

/// The running daemons of that name in this host's own mount namespace, so not those in containers or of rootless
/// engines. A process whose namespace this user may not see is not among them.
pub fn running(host: &Host, name: &str) -> Vec<DaemonProcess> {
    let root = host.root();
    if !host.is_live() {
        return Vec::new();
    }
    let Ok(own) = root.read_link("/proc/self/ns/mnt") else {
        return Vec::new();
    };
    let names = root.read_dir("/proc").unwrap_or_default();
    let mut pids: Vec<u32> = names
        .iter()
        .filter_map(|n| n.to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    let is_it = |pid: &u32| {
        comm(host, *pid).is_some_and(|comm| comm == name)
            && root
                .read_link(format!("/proc/{pid}/ns/mnt"))
                .is_ok_and(|ns| ns == own)
    };
    let its = pids.into_iter().filter(is_it);
    let its = its.filter_map(|pid| DaemonProcess::read(host, pid));
    its.filter(|process| !process.only_answers()).collect()
}

fn comm(host: &Host, pid: u32) -> Option<String> {
    let name = host.root().read_to_string(format!("/proc/{pid}/comm"));
    Some(name.ok()?.trim_end().to_owned())
}

impl DaemonProcess {
    /// `None` if it has ended.
    fn read(host: &Host, pid: u32) -> Option<Self> {
        let root = host.root();
        let line = root.read(format!("/proc/{pid}/cmdline")).ok()?;
        let words = String::from_utf8_lossy(&line);
        let words = words.trim_end_matches('\0').split('\0');
        let argv: Vec<String> = words.map(str::to_owned).collect();
        let first = argv.first().filter(|first| !first.is_empty())?;
        let program = root.read_link(format!("/proc/{pid}/exe"));
        let program = program.unwrap_or_else(|_| first.into());
        let owner = match Answer::from(root.read_to_string(format!("/proc/{pid}/cgroup"))) {
            Answer::Known(groups) => Answer::Known(owner(&groups)),
            Answer::None => Answer::Unknown("it shows no control group".into()),
            Answer::Unknown(why) => Answer::Unknown(why),
        };
        let status = root
            .read_to_string(format!("/proc/{pid}/status"))
            .unwrap_or_default();
        let parent = status.lines().find_map(|l| l.strip_prefix("PPid:"));
        let parent = parent.and_then(|pid| comm(host, pid.trim().parse().ok()?));
        Some(Self {
            pid,
            argv,
            program,
            owner,
            parent,
        })
    }

    /// Whether it is no daemon: gpusetup itself asks such programs for their version, and has them check a file.
    fn only_answers(&self) -> bool {
        let words = ["--version", "-v", "--validate", "--help", "-h", "config"];
        self.argv
            .iter()
            .skip(1)
            .any(|w| words.contains(&w.as_str()))
    }

    /// Whether that unit of the system's runs it.
    pub fn is_of_unit(&self, name: &str) -> bool {
        matches!(&self.owner, Answer::Known(ProcessOwner::Unit(unit)) if unit == name)
    }

    /// The unit of the system's that runs it, if one does.
    pub fn unit(&self) -> Option<&str> {
        match &self.owner {
            Answer::Known(ProcessOwner::Unit(unit)) => Some(unit),
            _ => None,
        }
    }

    /// `process 78 (/usr/sbin/dockerd, of site.service)`. Its arguments may be secret.
    pub fn text(&self) -> String {
        let by = match &self.owner {
            Answer::Known(ProcessOwner::Unit(unit)) => format!(", of {unit}"),
            Answer::Known(ProcessOwner::UserUnit(unit)) => format!(", of a user's {unit}"),
            Answer::Known(ProcessOwner::Nobody) => ", started by hand".into(),
            Answer::None | Answer::Unknown(_) => String::new(),
        };
        format!("process {} ({}{by})", self.pid, self.program.display())
    }
}

/// Whose control group a process is in, by its /proc/PID/cgroup. With cgroup v1, systemd's own hierarchy tells.
fn owner(groups: &str) -> ProcessOwner {
    let systemd = groups.lines().find_map(|l| l.split_once(":name=systemd:"));
    let unified = groups.lines().find_map(|l| l.split_once("0::"));
    let (_, path) = systemd.or(unified).unwrap_or_default();
    let mut services = path.split('/').filter(|part| part.ends_with(".service"));
    match services.next() {
        None => ProcessOwner::Nobody,
        Some(manager) if manager.starts_with("user@") => match services.next_back() {
            Some(unit) => ProcessOwner::UserUnit(unit.to_owned()),
            None => ProcessOwner::Nobody,
        },
        Some(unit) => ProcessOwner::Unit(unit.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_group_tells_who_has_started_a_process() {
        let unit = |name: &str| ProcessOwner::Unit(name.into());
        for (groups, wanted) in [
            ("0::/system.slice/docker.service\n", unit("docker.service")),
            (
                "12:cpu:/x\n1:name=systemd:/system.slice/k3s.service\n0::/\n",
                unit("k3s.service"),
            ),
            (
                "0::/user.slice/user-0.slice/session-3.scope\n",
                ProcessOwner::Nobody,
            ),
            (
                "0::/user.slice/user-7.slice/user@7.service/app.slice/docker.service\n",
                ProcessOwner::UserUnit("docker.service".into()),
            ),
            ("0::/\n", ProcessOwner::Nobody),
        ] {
            assert_eq!(owner(groups), wanted, "{groups}");
        }
    }
}
