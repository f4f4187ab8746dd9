//! Sets up CRI-O: adds a runtime in a drop-in of our own. CRI-O applies CDI specs by itself.
//!
//! No file goes into hooks.d, not even for a CRI-O without CDI. Podman reads the same directories,
//! so such a hook would also run in Podman's containers, and a second time in containers that get
//! their GPUs from the shim or CDI. The runtime works in every CRI-O; one before 1.18 reads no
//! drop-ins and gets it in crio.conf.

mod base;
pub(crate) mod config;
mod given;
mod installation;
mod remarks;
mod runtime;
mod sandboxes;
mod table;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use config::MergedConfig;
use gpu_inject::policy::PATH;
use installation::{DROP_INS, Installation, service, service_name};

use super::selinux;
use crate::engines::activation::{Activated, Activation};
use crate::engines::cri::{ImageSource, PodWays, Pods};
use crate::engines::dependent::DependentContainer;
use crate::engines::engine::{DaemonState, Engine, Facts, Management, Probe, major_minor};
use crate::engines::{cdi_versions, oci_hooks};
use crate::error::Error;
use crate::error::engine_fault::EngineFault;
use crate::host::Host;
use crate::host::answer::{self, Answer};
use crate::host::policy_file::HostPolicy;
use crate::host::service::Service;
use crate::host::start_flags::StartFlags;
use crate::model::change::Change;
use crate::model::setup_options::{Mode, SetupOptions};

const CONFIG: &str = "/etc/crio/crio.conf";
/// Where drop-ins are, unless a flag says otherwise.
pub const DROP_IN_DIR: &str = "/etc/crio/crio.conf.d";
/// Where its configuration can name our programs.
pub const CONFIG_PATTERNS: &[&str] = &[CONFIG, "/etc/crio/crio.conf.d/*", "/etc/crio/conf.d/*"];
const SOCKET: &str = "/var/run/crio/crio.sock";
/// The first version that has `cdi_spec_dirs` (CRI-O 1.24, pkg/config).
pub const CDI: (u32, u32) = (1, 24);
/// The first version that reads the CRI field for CDI devices (CRI-O 1.28,
/// `server/container_create.go`).
const CDI_FIELD: (u32, u32) = (1, 28);
/// The first version in which crio-status(8) is `crio status` (CRI-O 1.28,
/// internal/criocli/status.go).
const STATUS: (u32, u32) = (1, 28);
/// CRI-O on this host.
pub struct Crio {
    facts: Facts,
    at: Installation,
    /// The configuration apart from our drop-in, as last read, or why it is not known.
    merged: Result<MergedConfig, Error>,
    /// The shim's configuration.
    policy: Result<HostPolicy, Error>,
}

/// Looks for crio.
pub fn detect(host: &Host) -> Vec<Box<dyn Engine>> {
    Crio::find(host)
        .map(|e| Box::new(e) as Box<dyn Engine>)
        .into_iter()
        .collect()
}

impl Crio {
    fn find(host: &Host) -> Option<Self> {
        if !host.has_program("crio") {
            return None;
        }
        let full_version = installed_version(host);
        let version = full_version.as_deref().map(major_minor);
        let flags = StartFlags::read(host, &service_name(host));
        let place = |names: &[&str], variable: &str, default: &str| {
            let set = flags.get(names, variable);
            set.and_then(|s| s.path().map(Path::to_owned))
                .unwrap_or_else(|| default.into())
        };
        let path = flags.unit().environment("PATH").unwrap_or_default();
        let mut notes = Vec::new();
        if version.is_some_and(|v| v < CDI) {
            notes.push(
                "too old for CDI, which came with 1.24: pods name the runtime class \"nvidia\""
                    .to_owned(),
            );
        }
        let at = Installation {
            version,
            config: place(&["config", "c"], "CONTAINER_CONFIG", CONFIG),
            dir: place(&["config-dir", "d"], "CONTAINER_CONFIG_DIR", DROP_IN_DIR),
            given: given::settings(&flags),
            path: std::env::split_paths(&path).collect(),
        };
        let merged = at.merged(host);
        Some(Self {
            facts: Facts {
                name: "crio".into(),
                management: Management::Managed,
                version: full_version,
                daemon: DaemonState::of(host, || answer::listener(Path::new(socket(&merged)))),
                config: Some(at.file()),
                notes,
            },
            merged,
            policy: host.policy(),
            at,
        })
    }

    /// The configuration apart from our drop-in, as last read.
    pub fn merged(&self) -> Result<&MergedConfig, &Error> {
        self.merged.as_ref()
    }

    /// The directory of its drop-ins.
    pub fn drop_in_dir(&self) -> &Path {
        &self.at.dir
    }

    /// Whether our drop-in exists.
    pub fn has_drop_in(&self, host: &Host) -> bool {
        host.root().exists(self.at.drop_in())
    }

    fn socket(&self) -> &str {
        socket(&self.merged)
    }

    /// Checks that CRI-O runs with our drop-in: it skips a runtime that it does not accept, and reports that only in
    /// its log.
    fn took_it_in(&self, host: &Host) -> Result<(), String> {
        match answer::listener(Path::new(self.socket())) {
            Answer::Known(()) => {}
            Answer::None => return Err(format!("{}: nobody listens", self.socket())),
            Answer::Unknown(why) => return Err(why),
        }
        let mut argv = match self.at.version {
            Some(version) if version >= STATUS => vec!["crio", "status"],
            _ if host.has_program("crio-status") => vec!["crio-status"],
            // There is no status command, and `crio` with an unknown word would start a second
            // CRI-O.
            _ => return Ok(()),
        };
        argv.extend(["--socket", self.socket(), "config"]);
        let out = host.run(&argv, Duration::from_secs(10));
        let out = out.map_err(|e| e.to_string())?;
        let knows = out
            .stdout
            .contains(&table(&SetupOptions::default().runtime_name));
        if out.has_succeeded() && host.root().exists(self.at.drop_in()) && !knows {
            return Err("it does not know the runtime; its log says why".into());
        }
        Ok(())
    }
}

/// Where it listens.
fn socket(merged: &Result<MergedConfig, Error>) -> &str {
    let merged = merged.as_ref().ok();
    let listens = merged.and_then(|m| m.text(&["crio", "api", "listen"]));
    listens.unwrap_or(SOCKET)
}

/// The header of a runtime's table, which CRI-O also prints.
fn table(name: &str) -> String {
    format!("[crio.runtime.runtimes.{name}]")
}

fn installed_version(host: &Host) -> Option<String> {
    if host.is_live()
        && let Ok(out) = host.run(&["crio", "--version"], Duration::from_secs(10))
    {
        // "crio version 1.24.6", and more lines.
        let word = out.stdout.split_whitespace().nth(2)?;
        return Some(word.trim_start_matches('v').to_owned());
    }
    host.package_version(&["cri-o"])
}

impl Engine for Crio {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn changes(&self, host: &Host, wanted: &SetupOptions) -> Result<Vec<Change>, Error> {
        if wanted.mode == Mode::Cdi {
            return Ok(Vec::new());
        }
        let merged = self.merged.as_ref().map_err(Clone::clone)?;
        if !self.at.is_free(host, merged, wanted)? {
            return Ok(Vec::new());
        }
        let policy = self.policy.as_ref().map_err(Clone::clone)?;
        let base = self.at.base(host, merged, &policy.policy, wanted)?;
        let runtime = self.at.runtime(host, merged, &base, wanted)?;
        let low_level = runtime::low_level(&self.at, host, merged, &base, policy, wanted)?;
        Ok(low_level
            .into_iter()
            .chain([runtime])
            .filter(Change::is_needed)
            .collect())
    }

    fn consequences(&self, host: &Host, wanted: &SetupOptions) -> Vec<String> {
        let changes = self.changes(host, wanted).unwrap_or_default();
        match &self.merged {
            Ok(merged) if !changes.is_empty() => remarks::taken_over(host, merged, wanted),
            _ => Vec::new(),
        }
    }

    fn warnings(&self, host: &Host) -> Vec<String> {
        let mut warnings = Vec::new();
        let Ok(merged) = &self.merged else {
            // `changes` reports the error.
            return warnings;
        };
        let keys = ["crio", "runtime", "cdi_spec_dirs"];
        if let Some((path, dirs)) = merged.list(&keys).filter(|_| !self.at.is_before(CDI)) {
            warnings.extend(cdi_versions::leaves_out(
                path,
                "cdi_spec_dirs",
                &dirs,
                "CRI-O",
            ));
        }
        if !self.at.is_before(CDI) {
            warnings.extend(cdi_versions::too_new(host, "crio", self.at.version));
        }
        warnings.extend(remarks::other_low_level(
            &self.at,
            host,
            merged,
            &self.policy,
        ));
        warnings.extend(oci_hooks::leftovers(host));
        if let Some((_, dirs)) = merged.list(&["crio", "runtime", "hooks_dir"]) {
            warnings.extend(oci_hooks::leftovers_in(host, &dirs, "CRI-O"));
        }
        warnings.extend(selinux::denies(host));
        warnings
    }

    fn owns(&self, path: &Path) -> bool {
        path == self.at.drop_in() || path == self.at.config
    }

    fn reads(&self) -> Vec<PathBuf> {
        let merged = self.merged.iter().flat_map(MergedConfig::paths).cloned();
        merged
            .chain([self.at.drop_in(), self.at.config.clone()])
            .collect()
    }

    fn read_again(&mut self, host: &Host) {
        self.merged = self.at.merged(host);
        self.policy = host.read_policy_again();
    }

    fn text_of(&self, path: &Path) -> Option<&str> {
        if path == Path::new(PATH) {
            return self.policy.as_ref().ok()?.text.as_deref();
        }
        self.merged.as_ref().ok()?.text_of(path)
    }

    fn activation(&self, host: &Host, changes: &[Change]) -> Activation {
        if !changes.iter().any(|c| self.owns(&c.path)) {
            return Activation::default();
        }
        // A reload only changes what `crio status config` prints: the part that starts containers
        // keeps the runtimes that it started with (CRI-O #10202; server.go copies the
        // configuration, 1.26 to 1.36).
        Activation::restart(Activated {
            service: service(host),
            unit_changes: false,
            effect: "running containers keep running".into(),
        })
    }

    fn daemon_service(&self, host: &Host) -> Option<Service> {
        Some(service(host))
    }

    /// Pods that use our runtime. CRI-O can neither start nor stop them once the runtime is gone
    /// (toolkit #1360).
    fn dependent_containers(&self, host: &Host) -> Answer<Vec<DependentContainer>> {
        if !host.is_live() {
            return Answer::None;
        }
        let store = match &self.merged {
            Ok(merged) => merged.text(&["crio", "runroot"]).map(Path::new),
            // The engine's files give the directory of the sandboxes.
            Err(e) => return Answer::Unknown(e.to_string()),
        };
        match sandboxes::of_runtime(host, store, &SetupOptions::default().runtime_name) {
            Ok(pods) => Answer::Known(
                pods.into_iter()
                    .map(DependentContainer::with_gpus)
                    .collect(),
            ),
            Err(why) => Answer::Unknown(why),
        }
    }

    fn pods(&self, host: &Host, archive: &Path) -> Option<Probe> {
        let pods = Pods {
            socket: self.socket(),
            image: ImageSource::Archive(archive),
            sandbox_image: None,
            // The kind of the cgroup parent depends on `cgroup_manager`.
            cgroup_parent: "",
            ways: PodWays {
                handler: host.root().exists(self.at.drop_in()),
                field: !self.at.is_before(CDI_FIELD),
                annotation: !self.at.is_before(CDI),
            },
        };
        Some(pods.probe(host))
    }

    /// Runs `crio config`.
    fn check(&self, host: &Host) -> Result<bool, Error> {
        if !host.is_live() {
            return Ok(false);
        }
        let (config, dir) = (
            self.at.config.display().to_string(),
            self.at.dir.display().to_string(),
        );
        let mut argv = vec!["crio"];
        // A file named by a flag must exist; the default file need not.
        if host.root().exists(&self.at.config) {
            argv.extend(["--config", &config]);
        }
        if !self.at.is_before(DROP_INS) {
            argv.extend(["--config-dir", &dir]);
        }
        argv.push("config");
        let out = host.run(&argv, Duration::from_secs(30))?;
        if !out.has_succeeded() {
            let message = out.last_line().to_owned();
            return Err(Error::engine(
                "crio",
                EngineFault::Refuses { said: message },
            ));
        }
        let written = host.root().exists(self.at.drop_in());
        if written
            && !out
                .stdout
                .contains(&table(&SetupOptions::default().runtime_name))
        {
            let fault = EngineFault::NotTakenIn {
                file: self.at.drop_in().display().to_string(),
                shown_by: argv.join(" "),
            };
            return Err(Error::engine("crio", fault));
        }
        Ok(true)
    }

    fn health(&self, host: &Host) -> Result<(), Error> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            match self.took_it_in(host) {
                Ok(()) => return Ok(()),
                Err(message) if Instant::now() >= end => {
                    let fix = Some(service(host).log_hint());
                    return Err(Error::engine(
                        "crio",
                        EngineFault::NotBack { said: message, fix },
                    ));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }
}
