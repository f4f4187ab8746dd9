//! Checks of the system's Docker: its daemon.json, its unit and its runtimes.

use std::path::Path;

use serde_json::Value;

use crate::doctor::checks::check::{Checks, evidence};
use crate::doctor::facts::HostFacts;
use crate::engines::docker::{self, cdi_restart, drop_in, runtime_entry, stored_container};
use crate::model::setup_options::{Mode, SetupOptions};
use crate::model::toolkit_traces::TraceKind;

pub const CHECKS: Checks = &[
    ("docker-json", json),
    ("docker-flag-and-file", flag_and_file),
    ("docker-runtime-gone", runtime_gone),
    ("docker-default-unknown", default_unknown),
    ("docker-no-hook", no_hook),
    ("docker-not-restarted", not_restarted),
    ("docker-cdi-off", cdi_off),
    ("docker-cdi-restart", not_back),
    ("docker-too-old", too_old),
    ("docker-runtime-unknown", runtime_unknown),
    ("hook-direct", hook_direct),
];

const HOOK: &str = "nvidia-container-runtime-hook";
/// Runtimes that Docker has without an entry (moby daemon/config, `StockRuntimeName`, and
/// containerd's shims by their type).
const STOCK: [&str; 2] = ["runc", "io.containerd.runc.v2"];
/// Flags, each with the key that dockerd refuses beside it (moby daemon/config,
/// `findConfigurationConflicts`). Runtimes are not in the list: dockerd merges them.
const CLASHES: [(&str, &str); 14] = [
    ("-H", "hosts"),
    ("--host", "hosts"),
    ("--default-runtime", "default-runtime"),
    ("--data-root", "data-root"),
    ("--exec-root", "exec-root"),
    ("--storage-driver", "storage-driver"),
    ("--log-driver", "log-driver"),
    ("--log-level", "log-level"),
    ("--exec-opt", "exec-opts"),
    ("--dns", "dns"),
    ("--bip", "bip"),
    ("--cgroup-parent", "cgroup-parent"),
    ("--insecure-registry", "insecure-registries"),
    ("--registry-mirror", "registry-mirrors"),
];

fn json(look: &HostFacts) -> Option<String> {
    match look.daemon_json()? {
        Ok(_) => None,
        Err(e) => Some(e.to_string()),
    }
}

fn flag_and_file(look: &HostFacts) -> Option<String> {
    let (unit, file) = (look.docker_unit()?, look.ok(look.daemon_json()?)?);
    let clashing = CLASHES.iter().filter(|(_, key)| file.get(&[key]).is_some());
    let findings = clashing.filter_map(|(flag, key)| {
        let place = unit.where_is(flag)?.display();
        Some(format!(
            "{flag} in {place}, and {key:?} in {}",
            file.path.display()
        ))
    });
    evidence(findings.collect())
}

fn runtime_gone(look: &HostFacts) -> Option<String> {
    let file = look.ok(look.daemon_json()?)?;
    // `programs-gone` reports that our own program is missing.
    let ours = SetupOptions::default().runtime_path.display().to_string();
    let findings = runtime_entry::dangling(look.host, file).into_iter();
    evidence(findings.filter(|s| !s.contains(&ours)).collect())
}

fn default_unknown(look: &HostFacts) -> Option<String> {
    let (unit, file) = (look.docker_unit()?, look.ok(look.daemon_json()?)?);
    let by_flag = unit.flag("--default-runtime");
    let by_file = file.get(&["default-runtime"]).and_then(Value::as_str);
    let name = by_file.or(by_flag.as_deref())?;
    let is_flagged = |f: &&str| f.split('=').next() == Some(name);
    let is_known = STOCK.contains(&name)
        || name.starts_with("io.containerd.")
        || file.get(&["runtimes", name]).is_some()
        || unit.flags("--add-runtime").iter().any(is_flagged);
    (!is_known)
        .then(|| format!("default-runtime is {name:?}, and no runtime of that name is there"))
}

/// Whether gpusetup has set up Docker on this host.
fn is_ours(look: &HostFacts) -> bool {
    let docker = look.engine("docker");
    docker.is_some_and(|d| look.was_wanted(d).is_some())
}

fn no_hook(look: &HostFacts) -> Option<String> {
    let unit = look.docker_unit()?;
    look.was_wanted(look.engine("docker")?)
        .filter(|w| w.mode != Mode::Cdi)?;
    let path = drop_in::search_path(unit);
    let has = |dir: &str| look.exists(Path::new(dir).join(HOOK));
    (!path.split(':').any(has)).then(|| format!("no {HOOK} in {path}"))
}

pub fn not_restarted(look: &HostFacts) -> Option<String> {
    let unit = look.docker_unit().filter(|_| is_ours(look))?;
    let pid = look.text(docker::PIDFILE)?;
    let pid: u32 = pid.trim().parse().ok()?;
    // If dockerd has ended, or its environment cannot be read, the check has no result.
    let environ = look.host.root().read(format!("/proc/{pid}/environ"));
    look.known(environ.into()).filter(|e| !e.is_empty())?;
    let is_same = drop_in::is_started_with(look.host, unit, Path::new(docker::PIDFILE));
    (!is_same).then(|| format!("dockerd ({pid}) runs with another PATH than docker.service says"))
}

fn cdi_off(look: &HostFacts) -> Option<String> {
    let file = look.ok(look.daemon_json()?)?;
    let value = file.get(&["features", "cdi"]).and_then(Value::as_bool);
    if value == Some(false) {
        return Some(format!("features.cdi is false in {}", file.path.display()));
    }
    let version = look.engine_version("docker")?;
    let mode = look.was_wanted(look.engine("docker")?).map(|w| w.mode);
    let uses_cdi = mode.is_some_and(|m| m != Mode::Runtime);
    let needs = uses_cdi && docker::daemon_json_changes::CDI_BY_FEATURE.contains(&version);
    (needs && value.is_none()).then(|| {
        format!(
            "Docker {}.{} needs features.cdi true in {}",
            version.0,
            version.1,
            file.path.display()
        )
    })
}

fn not_back(look: &HostFacts) -> Option<String> {
    let version = look.engine_version("docker")?;
    if !cdi_restart::AFFECTED.contains(&version) {
        return None;
    }
    let file = look.daemon_json().and_then(Result::ok);
    let usual = Path::new(stored_container::DATA_ROOT);
    let data_root = stored_container::data_root(look.docker_unit()?, file, usual);
    evidence(look.ok(cdi_restart::containers(look.host, &data_root))?)
}

fn too_old(look: &HostFacts) -> Option<String> {
    let version = look.engine_version("docker").filter(|v| *v > (0, 0))?;
    (version < (19, 3)).then(|| format!("version {}.{:02}", version.0, version.1))
}

fn runtime_unknown(look: &HostFacts) -> Option<String> {
    let file = look.ok(look.daemon_json()?)?;
    let name = SetupOptions::default().runtime_name;
    let is_gone = file.get(&["runtimes", &name]).is_none();
    let mode = look.was_wanted(look.engine("docker")?)?.mode;
    let wrote = look.has_written(&file.path) && mode != Mode::Cdi;
    (wrote && is_gone).then(|| format!("{} has no runtime {name:?} any more", file.path.display()))
}

fn hook_direct(look: &HostFacts) -> Option<String> {
    let unit = look.docker_unit()?;
    let theirs = look.foreign().names(TraceKind::Program);
    let is_hook = |dir: &str| {
        let path = Path::new(dir).join(HOOK).display().to_string();
        theirs.contains(&path).then_some(path)
    };
    // dockerd uses the first hook on its PATH.
    let path = drop_in::search_path(unit);
    let first = path
        .split(':')
        .find(|d| look.exists(Path::new(d).join(HOOK)))?;
    let hook = is_hook(first)?;
    let mode = look.policy()?.mode;
    let why = match mode {
        gpu_inject::policy::RuntimeMode::Cdi => "mode is \"cdi\"",
        gpu_inject::policy::RuntimeMode::Csv => "mode is \"csv\"",
        _ if look.platform().jetson.is_some() => "this is a Jetson",
        _ => return None,
    };
    Some(format!(
        "dockerd finds the NVIDIA toolkit's {hook}, and {why}"
    ))
}
