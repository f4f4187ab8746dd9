//! Checks of the fabric manager, which CUDA waits for on machines with an `NVSwitch`.

use crate::doctor::checks::check::Checks;
use crate::doctor::facts::HostFacts;
use crate::doctor::remedy::{Remedies, Remedy};

pub const CHECKS: Checks = &[
    ("fabricmanager-stopped", stopped),
    ("fabricmanager-version", version),
];

pub const REMEDIES: Remedies = &[
    ("fabricmanager-stopped", start),
    ("fabricmanager-version", same_version),
];

const PROGRAM: &str = "nv-fabricmanager";

fn has_switch(look: &HostFacts) -> bool {
    let is_switch = |p: &std::path::PathBuf| {
        let name = p.file_name().unwrap_or_default().to_string_lossy();
        let number = name.strip_prefix("nvidia-nvswitch");
        number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    look.pci().iter().any(|p| p.is_switch) || look.entries("/dev").iter().any(is_switch)
}

fn stopped(look: &HostFacts) -> Option<String> {
    look.loaded_version()?;
    if !has_switch(look) || !look.sees_processes() || look.runs(PROGRAM) {
        return None;
    }
    let installed = if look.host.has_program(PROGRAM) {
        "is installed and does not run"
    } else {
        "is not installed"
    };
    Some(format!(
        "this machine has NVSwitches, {PROGRAM} {installed}"
    ))
}

fn version(look: &HostFacts) -> Option<String> {
    let loaded = look.loaded_version()?;
    // The package is `nvidia-fabricmanager`, or `nvidia-fabricmanager-580` with its branch.
    let listed = look.dpkg().iter().find(|(name, status, _)| {
        name.starts_with("nvidia-fabricmanager")
            && !name.contains("dev")
            && status.ends_with(" installed")
    });
    let (name, upstream) = match listed {
        Some((name, _, version)) => {
            let version = version
                .rsplit_once(':')
                .map_or(version.as_str(), |(_, v)| v);
            (
                name.as_str(),
                version.split(['-', '+', '~']).next()?.to_owned(),
            )
        }
        // As NVIDIA names it for RPM, before and after the branch 575.
        None => ["nvidia-fabricmanager", "nvidia-fabric-manager"]
            .into_iter()
            .find_map(|name| Some((name, look.package(name)?)))?,
    };
    (upstream != loaded).then(|| format!("{name} is {upstream}, the loaded driver {loaded}"))
}

fn start(look: &HostFacts, usual: Remedy) -> Remedy {
    if look.host.has_program(PROGRAM) {
        return usual
            .in_words("Start it; its log says why it does not run.")
            .by_command_if(look.has_systemd());
    }
    let version = look.loaded_version().unwrap_or_default();
    usual
        .in_words(format!(
            "Install nvidia-fabricmanager {version} and start it."
        ))
        .by_any(None)
}

fn same_version(look: &HostFacts, usual: Remedy) -> Remedy {
    match look.loaded_version() {
        Some(version) => usual.in_words(format!("Install the fabric manager {version}.")),
        None => usual,
    }
}
