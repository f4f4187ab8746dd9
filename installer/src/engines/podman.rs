//! Detects Podman, which has no daemon and nothing to configure: it reads the CDI spec by itself
//! (podman-run(1), `--device`), for root and for every other user.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gpu_host::Root;
use gpu_inject::generate::SPEC_PATH;

use super::selinux;
use crate::edit::toml::{get, parse};
use crate::engines::engine::{
    Case, DaemonState, Engine, Facts, Gets, Management, NEEDS_SPEC, Probe, argv, major_minor,
};
use crate::engines::{cdi_versions, oci_hooks, probe_image};
use crate::host::Host;

/// The first version whose `--device` takes CDI names (podman 4.1, whose CDI library is the first
/// that reads a released version of the specification).
pub const CDI: (u32, u32) = (4, 1);
/// The first version whose containers.conf has `cdi_spec_dirs` (podman 5.1, containers/common
/// 0.59).
const SPEC_DIRS: (u32, u32) = (5, 1);
/// The system's files; the later one wins, and a user's file comes after both (containers.conf(5)).
const CONFIGS: [&str; 2] = [
    "/usr/share/containers/containers.conf",
    "/etc/containers/containers.conf",
];

/// Where its configuration can name our programs or ask for our devices.
pub const CONFIG_PATTERNS: &[&str] = &[
    "/etc/containers/containers.conf",
    "/etc/containers/containers.conf.d/*.conf",
    // Quadlets (podman-systemd.unit(5)).
    "/etc/containers/systemd/*",
    "/etc/containers/systemd/*/*",
    "/etc/containers/systemd/users/*/*",
    "/usr/share/containers/systemd/*",
    "/usr/share/containers/systemd/*/*",
];
/// The same for a user's, below `XDG_CONFIG_HOME`.
pub const USER_CONFIG_PATTERNS: &[&str] = &[
    "containers/containers.conf",
    "containers/containers.conf.d/*.conf",
    "containers/systemd/*",
    "containers/systemd/*/*",
];

/// Podman on this host.
pub struct Podman {
    facts: Facts,
    /// `None` if unknown; it is then treated as a new one.
    version: Option<(u32, u32)>,
}

/// Looks for podman.
pub fn detect(host: &Host) -> Vec<Box<dyn Engine>> {
    Podman::find(host)
        .map(|e| Box::new(e) as Box<dyn Engine>)
        .into_iter()
        .collect()
}

impl Podman {
    fn find(host: &Host) -> Option<Self> {
        if !host.has_program("podman") {
            return None;
        }
        let full_version = installed_version(host);
        let version = full_version.as_deref().map(major_minor);
        let mut notes = Vec::new();
        if version.is_some_and(|v| v < CDI) {
            notes.push("too old for CDI, which came with 4.1".to_owned());
        } else {
            notes.push(NEEDS_SPEC.to_owned());
            notes.extend(keeps_groups(host));
        }
        Some(Self {
            facts: Facts {
                name: "podman".into(),
                management: Management::Managed,
                version: full_version,
                daemon: DaemonState::Unasked,
                config: None,
                notes,
            },
            version,
        })
    }
}

fn installed_version(host: &Host) -> Option<String> {
    if host.is_live()
        && let Ok(out) = host.run(&["podman", "--version"], Duration::from_secs(10))
    {
        let version = out.stdout.split_whitespace().nth(2).map(str::to_owned);
        // Podman does not start in a directory that this user may not enter, nor without one of their own.
        if version.is_some() {
            return version;
        }
    }
    host.package_version(&["podman"])
}

/// A rootless container has the user's permissions on the device nodes, and without this option
/// only those of the user's primary group (podman-run(1), `--group-add`).
fn keeps_groups(host: &Host) -> Option<String> {
    let nodes = ["/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia-uvm"];
    let closed = nodes.into_iter().find(|node| {
        let mode = host.root().metadata(node).map(|m| m.mode());
        mode.is_ok_and(|mode| mode & 0o006 != 0o006)
    })?;
    Some(format!(
        "{closed} is not for everybody: without root, be in its group and add `--group-add keep-groups`"
    ))
}

/// The value of `cdi_spec_dirs` in the last file that sets it, and that file.
fn spec_dirs(root: &Root, files: &[PathBuf]) -> Option<(PathBuf, Vec<String>)> {
    files.iter().rev().find_map(|path| {
        let document = parse(&root.read_to_string(path).ok()?).ok()?;
        let list = get(&document, &["engine", "cdi_spec_dirs"])?.as_array()?;
        // `{append=true}` adds to the earlier value; the built-in list contains our directory
        // (containers.conf(5)).
        let appends = list.iter().any(|v| {
            let append = v.as_inline_table().and_then(|t| t.get("append"));
            append.and_then(toml_edit::Value::as_bool) == Some(true)
        });
        let ours = Path::new(SPEC_PATH).parent()?.display().to_string();
        let named = list.iter().filter_map(|v| v.as_str().map(str::to_owned));
        let dirs = named.chain(appends.then_some(ours)).collect();
        Some((path.clone(), dirs))
    })
}

/// A file and its drop-ins, in the order in which they are read.
fn with_drop_ins(root: &Root, file: PathBuf) -> Vec<PathBuf> {
    let dir = PathBuf::from(format!("{}.d", file.display()));
    let names = root.read_dir(&dir).unwrap_or_default();
    let drop_ins = names.into_iter().map(|n| dir.join(n));
    let drop_ins = drop_ins.filter(|p| p.extension().is_some_and(|e| e == "conf"));
    std::iter::once(file).chain(drop_ins).collect()
}

/// A warning for each file, the system's or a user's, that hides our spec.
fn hidden(host: &Host) -> Vec<String> {
    // A separate handle, so that a home directory that root cannot read (NFS) does not make the
    // plan fail.
    let Ok(root) = Root::open(host.root().path()) else {
        return Vec::new();
    };
    let system: Vec<PathBuf> = CONFIGS
        .iter()
        .flat_map(|c| with_drop_ins(&root, c.into()))
        .collect();
    let homes = root.read_dir("/home").unwrap_or_default();
    let users = homes.into_iter().map(|user| {
        let home = Path::new("/home").join(user);
        with_drop_ins(&root, home.join(".config/containers/containers.conf"))
    });
    let mut warnings = Vec::new();
    for files in std::iter::once(system).chain(users) {
        if let Some((path, dirs)) = spec_dirs(&root, &files) {
            let dirs: Vec<&str> = dirs.iter().map(String::as_str).collect();
            warnings.extend(cdi_versions::leaves_out(
                &path,
                "cdi_spec_dirs",
                &dirs,
                "podman",
            ));
        }
    }
    warnings
}

/// A warning if only root may read the spec: every other user's podman finds no spec then.
fn is_closed(host: &Host) -> Option<String> {
    let mode = host.root().metadata(SPEC_PATH).ok()?.mode();
    (mode & 0o004 == 0).then(|| {
        format!("only root can read {SPEC_PATH}, so rootless podman finds no GPU: `chmod 0644 {SPEC_PATH}`")
    })
}

impl Engine for Podman {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn is_to_be_verified(&self) -> bool {
        self.is_reached()
    }

    fn is_reached(&self) -> bool {
        self.version.is_none_or(|v| v >= CDI)
    }

    fn warnings(&self, host: &Host) -> Vec<String> {
        if !self.is_reached() {
            return Vec::new();
        }
        let mut warnings: Vec<String> = cdi_versions::too_new(host, "podman", self.version)
            .into_iter()
            .collect();
        warnings.extend(is_closed(host));
        if self.version.is_none_or(|v| v >= SPEC_DIRS) {
            warnings.extend(hidden(host));
        }
        warnings.extend(oci_hooks::leftovers(host));
        warnings.extend(selinux::denies(host));
        warnings
    }

    fn probe(&self, host: &Host, archive: &Path) -> Option<Probe> {
        // Podman refuses the spec, and a warning says so. That is no reason to roll back the other engines.
        let refuses = cdi_versions::too_new(host, "podman", self.version).is_some();
        if refuses || !self.is_reached() {
            return None;
        }
        let archive = archive.display().to_string();
        let run: &[&str] = &["podman", "run", "-i", "--rm", "--network", "none", "--name"];
        let names: &[&str] = &["gpusetup-probe-0", "gpusetup-probe-1"];
        let probe: &[&str] = &[probe_image::NAME, probe_image::AGAIN];
        let device: &[&str] = &["--device", "nvidia.com/gpu=all"];
        Some(Probe {
            load: vec![argv(&[&["podman", "load", "-q", "-i", &archive]])],
            cases: vec![
                Case {
                    how: device.join(" "),
                    argv: argv(&[run, &names[..1], device, probe]),
                    gets: Gets::Gpus,
                },
                Case {
                    how: Case::PLAIN.into(),
                    argv: argv(&[run, &names[1..], probe]),
                    gets: Gets::Nothing,
                },
            ],
            leftovers: vec![
                // The container's first process ignores SIGTERM, and `rm` would wait for it.
                argv(&[&["podman", "kill"], names]),
                argv(&[&["podman", "rm", "-f", "--ignore"], names]),
            ],
            unload: vec![argv(&[&["podman", "rmi", "-f", probe_image::NAME]])],
            ..Probe::default()
        })
    }
}
