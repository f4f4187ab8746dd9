//! Checks of the system's Docker: its daemon.json, its unit and its runtimes.

use std::path::Path;

use gpu_host::init::Init;
use serde_json::Value;

use crate::doctor::checks::check::{Checks, evidence};
use crate::doctor::engine_state::GpuWay;
use crate::doctor::engine_states;
use crate::doctor::facts::HostFacts;
use crate::doctor::remedy::{Remedies, Remedy};
use crate::doctor::ways::{self, HOOK};
use crate::engines::docker::{self, cdi_restart, drop_in, runtime_entry, stored_container};
use crate::error::invocation::Invocation;
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

pub const REMEDIES: Remedies = &[
    ("docker-runtime-gone", take_place),
    ("docker-no-hook", set_up),
    ("docker-runtime-unknown", set_up),
    ("docker-not-restarted", restart),
    ("docker-cdi-off", turn_on),
];

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
    look.invalid(look.daemon_json()?)
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

/// Warnings about runtimes whose program is gone. `programs-gone` reports that our own is.
fn dangling(look: &HostFacts) -> Option<Vec<String>> {
    let file = look.ok(look.daemon_json()?)?;
    let ours = SetupOptions::default().runtime_path.display().to_string();
    let findings = runtime_entry::dangling(look.host, file).into_iter();
    Some(findings.filter(|s| !s.contains(&ours)).collect())
}

fn runtime_gone(look: &HostFacts) -> Option<String> {
    evidence(dangling(look)?)
}

fn take_place(look: &HostFacts, usual: Remedy) -> Remedy {
    usual.taking_places(&dangling(look).unwrap_or_default())
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
    let docker = look.docker()?;
    let by_hook = || ways::no_hook(look, docker);
    match look.was_wanted(docker) {
        Some(wanted) if wanted.mode == Mode::Cdi => None,
        Some(_) => by_hook(),
        // Whoever set it up, `--gpus` may work without a hook.
        None => {
            let state = engine_states::named(look, "docker")?;
            let is_lacking = |way: &GpuWay| way.how == "--gpus" && way.lacks.is_none();
            by_hook().filter(|_| !state.ways.iter().any(is_lacking))
        }
    }
}

/// `--fix` mends what gpusetup has set up before; anything else is a setup, which shows more and asks.
fn set_up(look: &HostFacts, usual: Remedy) -> Remedy {
    if is_ours(look) {
        return usual;
    }
    usual
        .in_words("Let gpusetup set Docker up.")
        .by_ours(Invocation::InstallEngineAsRoot("docker"))
        .by_hand()
}

/// The directory on that PATH in which dockerd would find the hook.
fn hook_dir<'a>(look: &HostFacts, path: &'a str) -> Option<&'a str> {
    let mut dirs = path.split(':');
    dirs.find(|dir| look.exists(Path::new(dir).join(HOOK)))
}

pub fn not_restarted(look: &HostFacts) -> Option<String> {
    let docker = look.docker()?;
    let (unit, pidfile) = (docker.unit(), docker.pidfile());
    let pid = look.text(&pidfile)?;
    let pid: u32 = pid.trim().parse().ok()?;
    // If dockerd has ended, or its environment cannot be read, the check has no result.
    let environ = look.host.root().read(format!("/proc/{pid}/environ"));
    let environ = look.known(environ.into()).filter(|e| !e.is_empty())?;
    let is_same = drop_in::is_started_with(look.host, unit, &pidfile);
    let mut variables = environ.split(|byte| *byte == 0);
    let path = variables.find_map(|v| v.strip_prefix(b"PATH="));
    let path = String::from_utf8_lossy(path.unwrap_or_default());
    // A unit that we did not write may get its PATH from elsewhere: only a hook that is not found matters.
    let is_found = hook_dir(look, &path) == hook_dir(look, &drop_in::search_path(unit));
    if is_same || (is_found && !is_ours(look)) {
        return None;
    }
    Some(format!(
        "dockerd ({pid}) runs with another PATH than docker.service says"
    ))
}

fn restart(look: &HostFacts, usual: Remedy) -> Remedy {
    match gpu_host::init::detect(look.host.root()) {
        Init::Systemd => usual,
        Init::OpenRc => usual.by("rc-service docker restart"),
        Init::Other => usual.by_any(None),
    }
}

/// Install turns CDI on in the versions that need the key; a later one has it off because somebody said so.
fn turn_on(look: &HostFacts, usual: Remedy) -> Remedy {
    let needs_key = &docker::daemon_json_changes::CDI_BY_FEATURE;
    let version = look.engine_version("docker");
    if version.is_none_or(|v| needs_key.contains(&v)) {
        return usual;
    }
    let file = look.daemon_json().and_then(Result::ok);
    let path = file.map_or_else(|| "daemon.json".into(), |f| f.path.display().to_string());
    usual
        .in_words(format!(
            "Take features.cdi out of {path}, and restart Docker."
        ))
        .by_any(None)
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
    let docker = look.docker()?;
    let file = look.ok(docker.daemon_json())?;
    let name = SetupOptions::default().runtime_name;
    let flags = docker.unit().flags("--add-runtime");
    let by_flag = flags.iter().any(|f| f.starts_with(&format!("{name}=")));
    if by_flag || file.get(&["runtimes", &name]).is_some() {
        return None;
    }
    let path = file.path.display();
    match look.was_wanted(docker) {
        Some(wanted) if wanted.mode == Mode::Cdi => None,
        Some(_) if look.has_written(&file.path) => {
            Some(format!("{path} has no runtime {name:?} any more"))
        }
        _ => Some(format!("{path} has no runtime {name:?}")),
    }
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
