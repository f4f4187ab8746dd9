//! Checks of the packages of the NVIDIA toolkit and of engines, as dpkg lists them.

use crate::doctor::checks::check::{Checks, evidence};
use crate::doctor::facts::HostFacts;
use crate::doctor::remedy::{Remedies, Remedy};

pub const CHECKS: Checks = &[
    ("packages-skew", skew),
    ("packages-half", half),
    ("toolkit-vulnerable", vulnerable),
];

pub const REMEDIES: Remedies = &[("packages-skew", upgrade), ("toolkit-vulnerable", leave)];

/// Packages that must have the same version (nvidia-container-toolkit, packaging/debian/control).
const TOGETHER: [&str; 4] = [
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container1",
    "libnvidia-container-tools",
];
/// Prefixes of the packages that containers with GPUs depend on.
const OURS: [&str; 9] = [
    "nvidia",
    "libnvidia",
    "docker",
    "containerd",
    "podman",
    "cri-o",
    "runc",
    "crun",
    "cuda-drivers",
];
/// The first version of the toolkit in which CVE-2025-23266 is fixed.
const MENDED: [u32; 3] = [1, 17, 8];

fn versions(look: &HostFacts) -> Vec<(&'static str, String)> {
    let all = TOGETHER.into_iter();
    all.filter_map(|name| Some((name, look.package(name)?)))
        .collect()
}

fn upgrade(look: &HostFacts, usual: Remedy) -> Remedy {
    if !look.host.has_program("apt") {
        return usual.by_any(None);
    }
    let names: Vec<&str> = versions(look).into_iter().map(|(name, _)| name).collect();
    usual.by(format!("apt install --only-upgrade {}", names.join(" ")))
}

/// Where gpusetup has taken its place already, only the package is left.
pub fn leave(look: &HostFacts, usual: Remedy) -> Remedy {
    if look.receipt().is_none() {
        return usual;
    }
    usual
        .in_words("Remove the package, whose place gpusetup has taken; or upgrade it.")
        .by_any(None)
}

fn skew(look: &HostFacts) -> Option<String> {
    let versions = versions(look);
    let (_, first) = versions.first()?;
    let differs = versions.iter().any(|(_, v)| v != first);
    differs.then(|| {
        let all: Vec<String> = versions.iter().map(|(n, v)| format!("{n} {v}")).collect();
        all.join(", ")
    })
}

fn half(look: &HostFacts) -> Option<String> {
    let bad = [
        "half-configured",
        "half-installed",
        "unpacked",
        "triggers-awaited",
    ];
    let findings = look.dpkg().iter().filter(|(name, status, _)| {
        OURS.iter().any(|o| name.starts_with(o)) && bad.iter().any(|b| status.ends_with(b))
    });
    evidence(
        findings
            .map(|(name, status, _)| {
                format!(
                    "{name} is {}",
                    status.rsplit(' ').next().unwrap_or_default()
                )
            })
            .collect(),
    )
}

fn vulnerable(look: &HostFacts) -> Option<String> {
    let version = look.package("nvidia-container-toolkit")?;
    let numbers: Vec<u32> = version.split('.').map(|n| n.parse().unwrap_or(0)).collect();
    (numbers.as_slice() < MENDED.as_slice())
        .then(|| format!("nvidia-container-toolkit is {version}"))
}
