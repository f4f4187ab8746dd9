//! Plans the drop-in of Docker's unit: `docker run --gpus` works if dockerd finds the hook on its
//! PATH when it starts (moby `daemon/devices_nvidia_linux.go`).

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::host::Host;
use crate::host::systemd_unit::Unit;
use crate::model::change::{Change, MergeKind};
use crate::model::setup_options::{Mode, SetupOptions};

/// The path of our drop-in for the unit of every package of Docker.
pub const PATH: &str = "/etc/systemd/system/docker.service.d/50-gpusetup.conf";
/// The path of our drop-in for a unit of that name.
pub fn path_of(unit_name: &str) -> PathBuf {
    let dir = Path::new("/etc/systemd/system").join(format!("{unit_name}.d"));
    dir.join("50-gpusetup.conf")
}

const HOOK: &str = "nvidia-container-runtime-hook";
/// The PATH that systemd gives a service that sets none (systemd.exec(5), "Environment").
const USUAL: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The PATH of a dockerd that is started by that unit.
pub fn search_path(unit: &Unit) -> String {
    unit.environment("PATH").unwrap_or_else(|| USUAL.into())
}

/// Whether dockerd, started by that unit, finds our hook first.
pub fn finds_ours(host: &Host, unit: &Unit, wanted: &SetupOptions) -> bool {
    leads_to_ours(host, &search_path(unit), wanted)
}

/// Whether our hook is the first one on that PATH.
pub fn leads_to_ours(host: &Host, path: &str, wanted: &SetupOptions) -> bool {
    let ours = wanted.names_dir.join(HOOK);
    let mut places = path.split(':').map(|dir| Path::new(dir).join(HOOK));
    let first = places.find(|p| host.root().exists(p));
    first.is_some_and(|f| f == ours || is_same_file(host, &f, &ours))
}

/// Whether the running dockerd was started with the PATH that its unit has now; false if that cannot be determined.
pub fn is_started_with(host: &Host, unit: &Unit, pidfile: &Path) -> bool {
    runs_with(host, pidfile).is_ok_and(|path| path == search_path(unit))
}

/// The PATH of the running dockerd, or why it is not known.
pub fn runs_with(host: &Host, pidfile: &Path) -> Result<String, String> {
    let root = host.root();
    let pid = root.read_to_string(pidfile).map_err(|e| e.to_string())?;
    let pid = pid.trim();
    let number = pid.parse::<u32>();
    let number = number.map_err(|_| format!("{}: {pid:?} is no process", pidfile.display()))?;
    let environ = root.read(format!("/proc/{number}/environ"));
    let environ = environ.map_err(|e| e.to_string())?;
    let mut sets = environ.split(|byte| *byte == 0);
    let path = sets.find_map(|set| set.strip_prefix(b"PATH="));
    let path = path.ok_or_else(|| format!("process {number} shows no PATH"))?;
    Ok(String::from_utf8_lossy(path).into_owned())
}

/// Versions from which on dockerd could do `--gpus` by CDI. A CDI spec knows neither the image's requirements
/// (`NVIDIA_REQUIRE_*`) nor its capabilities (`NVIDIA_DRIVER_CAPABILITIES`), so our hook does it there too.
pub const GPUS_BY_CDI: (u32, u32) = (28, 2);

/// The change that adds the drop-in; `None` if dockerd finds our hook, or none is wanted.
pub fn change(
    host: &Host,
    (unit_name, unit): (&str, &Unit),
    wanted: &SetupOptions,
    version: Option<(u32, u32)>,
) -> Result<Option<Change>, Error> {
    if wanted.mode == Mode::Cdi || finds_ours(host, unit, wanted) {
        return Ok(None);
    }
    let path = search_path(unit);
    let rest: Vec<&str> = path
        .split(':')
        .filter(|d| Path::new(d) != wanted.names_dir)
        .collect();
    let after = format!(
        "# Written by gpusetup. `docker run --gpus` works where dockerd finds {HOOK} on its PATH.\n\
         [Service]\nEnvironment=\"PATH={}:{}\"\n",
        wanted.names_dir.display(),
        rest.join(":")
    );
    let path = path_of(unit_name);
    Ok(Some(Change {
        before: host.text(&path)?,
        path,
        after: Some(after),
        mode: 0o644,
        why: if version.is_some_and(|version| version >= GPUS_BY_CDI) {
            "let `docker run --gpus` find its hook, since by CDI an image's requirements and capabilities would not count".into()
        } else {
            "let `docker run --gpus` find its hook".into()
        },
        kind: MergeKind::Own,
    }))
}

fn is_same_file(host: &Host, a: &Path, b: &Path) -> bool {
    let real = |p: &Path| host.root().canonicalize(p).ok();
    real(a).is_some() && real(a) == real(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dockerd_started_before_the_drop_in_needs_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let host = Host::open(dir.path(), Path::new("/")).unwrap();
        let is_same = || {
            let unit = Unit::read(&host, "docker.service");
            is_started_with(&host, &unit, Path::new("/run/docker.pid"))
        };
        assert!(!is_same(), "nobody can tell");
        write("run/docker.pid", "77");
        write("proc/77/environ", &format!("A=1\0PATH={USUAL}\0B=2\0"));
        assert!(is_same());
        write(&PATH[1..], "[Service]\nEnvironment=\"PATH=/x:/usr/bin\"\n");
        assert!(!is_same());
        write("proc/77/environ", "PATH=/x:/usr/bin\0");
        assert!(is_same());
    }
}
