//! Checks of the policy, /etc/nvidia-container-runtime/config.toml.

use gpu_inject::policy::{OFF_SWITCH, OffSwitch, RuntimeMode};

use crate::doctor::checks::check::Checks;
use crate::doctor::facts::HostFacts;
use crate::edit::toml::{get, parse};
use crate::model::setup_options::{self, SetupOptions};

pub const CHECKS: Checks = &[
    ("policy-invalid", invalid),
    ("runtime-turned-off", turned_off),
    ("policy-root", root),
    ("policy-csv", csv),
    ("no-low-level-runtime", low_level),
    ("ldconfig-path", ldconfig),
];

/// Directories where packages of CRI-O and of Kubernetes distributions keep runtimes.
const MORE_DIRS: [&str; 5] = [
    "/usr/libexec/crio",
    "/var/lib/rancher/k3s/data/current/bin",
    "/var/lib/rancher/rke2/bin",
    "/var/lib/k0s/bin",
    "/snap/microk8s/current/bin",
];

fn invalid(look: &HostFacts) -> Option<String> {
    look.policy_file().err().map(ToString::to_string)
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
    (!is_dir).then(|| format!("{} is no directory", policy.driver_root.display()))
}

fn csv(look: &HostFacts) -> Option<String> {
    let policy = look.policy()?;
    (policy.mode == RuntimeMode::Csv && look.platform().jetson.is_none())
        .then(|| format!("mode is \"csv\" in {}", policy.path.display()))
}

fn low_level(look: &HostFacts) -> Option<String> {
    // Only our runtime needs a low-level runtime; an engine in CDI mode does not use it.
    let mut edited = look.engines().iter().filter(|e| look.has_edited(&***e));
    let asks = |w: SetupOptions| w.mode != setup_options::Mode::Cdi;
    edited.find(|e| look.was_wanted(&***e).is_some_and(asks))?;
    let policy = look.policy()?;
    let is_there = |name: &String| {
        if name.starts_with('/') {
            return look.exists(name);
        }
        look.host.has_program(name) || MORE_DIRS.iter().any(|d| look.exists(format!("{d}/{name}")))
    };
    (!policy.runtimes.iter().any(is_there))
        .then(|| format!("not found: {}", policy.runtimes.join(", ")))
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
