//! Checks of control groups: whether they are mounted and device rules can be changed in them.

use gpu_host::{cgroup, kernel};

use crate::doctor::checks::check::Checks;
use crate::doctor::facts::HostFacts;
use crate::doctor::remedy::{Remedies, Remedy};
use crate::engines::engine::Engine;

pub const CHECKS: Checks = &[
    ("no-cgroups", no_cgroups),
    ("kernel-too-old", kernel_too_old),
    ("cgroups-missing", missing),
    ("toolkit-cgroup2", toolkit),
    ("nested", nested),
    ("bpf-hidden", hidden_programs),
];

pub const REMEDIES: Remedies = &[
    ("cgroups-missing", mount),
    ("toolkit-cgroup2", super::packages::leave),
];

/// libnvidia-container supports cgroup v2 since 1.8.0 (its CHANGELOG).
const CGROUP2: (u32, u32) = (1, 8);

fn no_cgroups(look: &HostFacts) -> Option<String> {
    let policy = look.policy()?;
    let is_roots = |e: &&dyn Engine| e.is_ours() && !e.is_of_user() && e.facts().config.is_some();
    let mut engines = look.engines().iter().map(|e| &**e);
    let engine = &engines.find(is_roots)?.facts().name;
    // In a container, where the rules cannot be changed, no-cgroups is right.
    (policy.no_cgroups && look.platform().container.is_none()).then(|| {
        format!(
            "no-cgroups = true in {}, and {engine} is here",
            policy.path.display()
        )
    })
}

fn kernel_too_old(look: &HostFacts) -> Option<String> {
    let root = look.host.root();
    let way = kernel::missing_ways(root).into_iter().next_back()?;
    let release = kernel::release(root)?;
    Some(format!(
        "{} needs {}, with {}; this is {release}",
        way.name, way.since, way.needs
    ))
}

fn missing(look: &HostFacts) -> Option<String> {
    let root = look.host.root();
    kernel::release(root)?;
    let is_seen = cgroup::version(root) != cgroup::Version::Unknown;
    let needs = look.engines().first()?.facts().name.clone();
    (!is_seen).then(|| format!("/sys/fs/cgroup has no hierarchy, and {needs} needs one"))
}

fn toolkit(look: &HostFacts) -> Option<String> {
    let version = look.package("libnvidia-container1")?;
    let is_old = crate::engines::engine::major_minor(&version) < CGROUP2;
    let is_v2 = cgroup::version(look.host.root()) == cgroup::Version::V2;
    (is_old && is_v2)
        .then(|| format!("libnvidia-container1 is {version}, and cgroup v2 is mounted"))
}

fn nested(look: &HostFacts) -> Option<String> {
    let kind = look.platform().container.as_deref()?;
    let policy = look.policy()?;
    look.engine("docker")?;
    (kind.starts_with("lxc") && !policy.no_cgroups)
        .then(|| format!("systemd says that this is a container of {kind}"))
}

/// With `bpf_jit_harden` = 2 the kernel changes the constants of every device program, and with `kptr_restrict` = 2
/// it shows no such program at all. Our hooks work with both settings; libnvidia-container works with neither.
fn hidden_programs(look: &HostFacts) -> Option<String> {
    let root = look.host.root();
    let setting = |path: &str| {
        let text = root.read_to_string(path).ok()?;
        text.trim().parse::<u32>().ok()
    };
    if cgroup::version(root) != cgroup::Version::V2
        || setting("/proc/sys/net/core/bpf_jit_harden") != Some(2)
    {
        return None;
    }
    if let Some(version) = look.package("libnvidia-container1") {
        return Some(format!(
            "net.core.bpf_jit_harden is 2, and libnvidia-container1 {version} is here"
        ));
    }
    (setting("/proc/sys/kernel/kptr_restrict") == Some(2))
        .then(|| "net.core.bpf_jit_harden and kernel.kptr_restrict are both 2".to_owned())
}

/// Only OpenRC has a service for it.
fn mount(look: &HostFacts, usual: Remedy) -> Remedy {
    let init = gpu_host::init::detect(look.host.root());
    usual.by_command_if(init == gpu_host::init::Init::OpenRc)
}
