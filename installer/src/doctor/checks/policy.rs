//! Checks of the policy, /etc/nvidia-container-runtime/config.toml.

use std::path::{Path, PathBuf};

use gpu_host::programs;
use gpu_inject::policy::{
    LAST_SEEN, OFF_SWITCH, OffSwitch, PATH, RuntimeMode, command_to_put_back,
};

use crate::doctor::checks::check::Checks;
use crate::doctor::facts::HostFacts;
use crate::doctor::remedy::{Remedies, Remedy};
use crate::edit::toml::{get, parse};
use crate::error::invocation::Invocation;
use crate::model::setup_options::SetupOptions;

pub const CHECKS: Checks = &[
    ("policy-invalid", invalid),
    ("policy-gone", gone),
    ("runtime-turned-off", turned_off),
    ("policy-root", root),
    ("policy-csv", csv),
    ("no-low-level-runtime", low_level),
    ("ldconfig-path", ldconfig),
];

pub const REMEDIES: Remedies = &[
    ("policy-gone", put_back),
    ("policy-root", right_root),
    ("no-low-level-runtime", name_one),
    ("ldconfig-path", name_ldconfig),
];

/// Low-level runtimes that take the place of runc (OCI runtime-spec, implementations.md).
const LOW_LEVEL: [&str; 3] = ["runc", "crun", "youki"];
/// Names of the loader's cache writer. Ubuntu's /sbin/ldconfig is a script that starts the other (glibc, debian/).
const LDCONFIGS: [&str; 2] = ["ldconfig.real", "ldconfig"];

fn invalid(look: &HostFacts) -> Option<String> {
    look.invalid(look.policy_file())
}

fn gone(look: &HostFacts) -> Option<String> {
    let is_gone = look.policy_file().is_ok_and(|file| file.text.is_none());
    (is_gone && look.host.root().exists(LAST_SEEN))
        .then(|| format!("{PATH} is not there; what stood in it is in {LAST_SEEN}"))
}

fn put_back(_: &HostFacts, usual: Remedy) -> Remedy {
    usual.by_any(Some(command_to_put_back()))
}

fn turned_off(look: &HostFacts) -> Option<String> {
    match OffSwitch::of(look.host.root().path()) {
        OffSwitch::Unset => None,
        OffSwitch::Set => Some(format!("{OFF_SWITCH} is there")),
        OffSwitch::NotRoots => Some(format!(
            "{OFF_SWITCH} is there, but turns nothing off: it must be a file of root's that nobody else can write"
        )),
    }
}

fn root(look: &HostFacts) -> Option<String> {
    let policy = look.policy()?;
    let is_dir = look
        .host
        .root()
        .metadata(&policy.driver_root)
        .is_ok_and(|m| m.is_dir());
    (!is_dir).then(|| {
        format!(
            "{} is no directory{}",
            policy.driver_root.display(),
            libraries(look)
        )
    })
}

/// Where the libraries are, for the evidence.
fn libraries(look: &HostFacts) -> String {
    let root = driver_root(look);
    root.map_or_else(String::new, |root| {
        format!("; the driver's libraries are below {}", root.display())
    })
}

/// The root below which the loaded driver's libraries are.
fn driver_root(look: &HostFacts) -> Option<PathBuf> {
    let usual = Path::new("/");
    let installed = gpu_host::installed_version(look.host.root(), usual);
    let loaded = look.loaded_version();
    if installed.is_some() && (loaded.is_none() || installed == loaded) {
        return Some(usual.to_owned());
    }
    gpu_host::other_driver_root(look.host.root(), &loaded?)
}

fn right_root(look: &HostFacts, usual: Remedy) -> Remedy {
    let root = driver_root(look);
    let key = "nvidia-container-cli.root";
    let set = root.map(|root| Invocation::ConfigSet(key, &root.to_string_lossy()).to_string());
    usual.by_any(set)
}

fn csv(look: &HostFacts) -> Option<String> {
    let policy = look.policy()?;
    (policy.mode == RuntimeMode::Csv && look.platform().jetson.is_none())
        .then(|| format!("mode is \"csv\" in {}", policy.path.display()))
}

fn low_level(look: &HostFacts) -> Option<String> {
    // Only our runtime needs a low-level runtime; an engine in CDI mode does not use it.
    let ours = SetupOptions::default().runtime_path;
    look.file_naming(ours.to_str()?)?;
    let policy = look.policy()?;
    let is_there = |name: &String| {
        if name.starts_with('/') {
            return look.exists(name);
        }
        look.host.has_program(name)
            || programs::PACKAGED_DIRS
                .iter()
                .any(|d| look.exists(format!("{d}/{name}")))
    };
    (!policy.runtimes.iter().any(is_there))
        .then(|| format!("not found: {}", policy.runtimes.join(", ")))
}

/// One that is here under a name that the list does not have.
fn name_one(look: &HostFacts, usual: Remedy) -> Remedy {
    let program = LOW_LEVEL
        .into_iter()
        .find(|name| look.host.has_program(name));
    match program {
        Some(name) => usual.by_ours(Invocation::ConfigSet(
            "nvidia-container-runtime.runtimes",
            name,
        )),
        None => usual.in_words("Install runc or crun.").by_any(None),
    }
}

fn name_ldconfig(look: &HostFacts, usual: Remedy) -> Remedy {
    let mut programs = LDCONFIGS
        .into_iter()
        .filter_map(|name| look.host.program(name));
    let set = programs.next().map(|program| {
        let path = format!("@{}", program.display());
        Invocation::ConfigSet("nvidia-container-cli.ldconfig", &path).to_string()
    });
    usual.by_any(set)
}

fn ldconfig(look: &HostFacts) -> Option<String> {
    let text = look.ok(look.policy_file())?.text.as_ref()?;
    let document = look.ok(parse(text))?;
    let value = get(&document, &["nvidia-container-cli", "ldconfig"])?
        .as_str()?
        .to_owned();
    // `@` marks a path on the host; a path inside the container cannot be checked here.
    let path = value.strip_prefix('@')?;
    (!look.exists(path)).then(|| format!("ldconfig is {value:?}, and {path} is not there"))
}
