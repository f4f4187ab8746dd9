//! Finds the system's Docker wherever it is installed: by the unit that starts it, then on the usual PATH, then by the
//! process that runs.

use std::path::{Path, PathBuf};

use crate::engines::unmanaged::Unmanaged;
use crate::error::invocation::Invocation;
use crate::host::Host;
use crate::host::systemd_unit::{self, Unit};

/// The unit of every package of Docker.
pub const UNIT: &str = "docker.service";
const PROGRAM: &str = "dockerd";

/// A Docker that a service starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledDocker {
    /// Its dockerd.
    pub program: PathBuf,
    /// The name of its unit, whether or not there is one: other managers have a service of the usual name.
    pub unit: String,
}

impl InstalledDocker {
    /// The system's Docker.
    pub fn find(host: &Host) -> Option<Self> {
        let usual = (UNIT.to_owned(), Unit::read(host, UNIT));
        let by_unit = |(name, unit): (String, Unit)| {
            let program = Path::new(unit.program()?);
            let is_dockerd = program.file_name().is_some_and(|n| n == PROGRAM);
            (is_dockerd && program.is_absolute() && host.root().exists(program)).then(|| Self {
                program: program.to_owned(),
                unit: name,
            })
        };
        let on_path = || {
            let program = host.program(PROGRAM)?;
            let unit = UNIT.to_owned();
            Some(Self { program, unit })
        };
        if usual.1.exists() {
            return by_unit(usual).or_else(on_path);
        }
        // A Docker unpacked below /opt has a unit of its own.
        let others = systemd_unit::starting(host, PROGRAM);
        others.into_iter().find_map(by_unit).or_else(on_path)
    }
}

/// A dockerd that runs on this host, not in a container, though nothing is installed that would start it.
pub fn running(host: &Host) -> Option<Unmanaged> {
    if !host.is_live() {
        return None;
    }
    let root = host.root();
    let own = root.read_link("/proc/self/ns/mnt").ok()?;
    let names = root.read_dir("/proc").unwrap_or_default();
    let mut pids = names.iter().filter_map(|n| n.to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| {
        let comm = root.read_to_string(format!("/proc/{pid}/comm"));
        let namespace = root.read_link(format!("/proc/{pid}/ns/mnt"));
        comm.is_ok_and(|name| name.trim() == PROGRAM) && namespace.is_ok_and(|ns| ns == own)
    })?;
    let program = root.read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(Unmanaged::new(
        "docker",
        format!(
            "{} runs as process {pid}, and no unit starts it that gpusetup could restart",
            program.display()
        ),
        format!(
            "start it by a unit of systemd, then `{}`",
            Invocation::Install
        ),
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn find(files: &[(&str, &str)]) -> Option<(String, String)> {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let host = Host::open(dir.path(), Path::new("/")).unwrap();
        let found = InstalledDocker::find(&host)?;
        Some((found.program.display().to_string(), found.unit))
    }

    fn at(program: &str, unit: &str) -> (String, String) {
        (program.to_owned(), unit.to_owned())
    }

    const UNITS: &str = "etc/systemd/system";
    const OPT: &str = "[Service]\nExecStart=/opt/docker/bin/dockerd -H fd://\n";

    #[test]
    fn a_docker_outside_the_usual_path_is_found_by_its_unit() {
        let usual = format!("{UNITS}/docker.service");
        let own = format!("{UNITS}/moby.service");
        let program = ("opt/docker/bin/dockerd", "");
        assert_eq!(
            find(&[(&usual, OPT), program]),
            Some(at("/opt/docker/bin/dockerd", UNIT))
        );
        let other = format!("{UNITS}/a.service");
        let starts_other = "[Service]\nExecStart=/opt/docker/bin/dockerd-proxy\n";
        assert_eq!(
            find(&[(&own, OPT), (&other, starts_other), program]),
            Some(at("/opt/docker/bin/dockerd", "moby.service"))
        );
        // What a unit starts counts, not what else is on PATH.
        let packaged = ("usr/bin/dockerd", "");
        assert_eq!(
            find(&[(&usual, OPT), program, packaged]),
            Some(at("/opt/docker/bin/dockerd", UNIT))
        );
        assert_eq!(find(&[packaged]), Some(at("/usr/bin/dockerd", UNIT)));
        // Removed, with its unit left.
        assert_eq!(find(&[(&own, OPT)]), None);
        assert_eq!(
            find(&[(&usual, OPT), packaged]),
            Some(at("/usr/bin/dockerd", UNIT))
        );
    }
}
