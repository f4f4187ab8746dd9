//! Checks of a Kubernetes node: whether kubelet and its engine agree, k3s's templates, and who
//! owns the engine's files.

use std::path::Path;

use super::containerd::default_systemd_cgroup;
use crate::doctor::checks::check::{Checks, evidence};
use crate::doctor::engine_state::GpuWay;
use crate::doctor::engine_states;
use crate::doctor::facts::{HostFacts, Lost};
use crate::doctor::remedy::{Remedies, Remedy};
use crate::engines::k3s::pending::PendingTemplate;
use crate::error::Error;
use crate::error::config_fault::ConfigFault;
use crate::error::invocation::Invocation;
use crate::model::setup_options::SetupOptions;
use crate::model::toolkit_traces::TraceKind;

pub const CHECKS: Checks = &[
    ("kubelet-cgroup-driver", cgroup_driver),
    ("k3s-template", template),
    ("two-owners", two_owners),
    ("cri-runtime-unknown", runtime_unknown),
];

pub const REMEDIES: Remedies = &[("cri-runtime-unknown", set_up)];

/// Kubelet's configuration as kubeadm writes it.
const KUBELET: &str = "/var/lib/kubelet/config.yaml";
/// The usual data directories of k3s and RKE2.
const RANCHER: [&str; 2] = ["/var/lib/rancher/k3s", "/var/lib/rancher/rke2"];
const TEMPLATES: [&str; 2] = ["config.toml.tmpl", "config-v3.toml.tmpl"];

fn cgroup_driver(look: &HostFacts) -> Option<String> {
    // From 2.0 on containerd tells kubelet its cgroup driver (KubeletCgroupDriverFromCRI,
    // Kubernetes 1.28).
    look.engine_version("containerd").filter(|v| *v < (2, 0))?;
    let text = look.text(KUBELET)?;
    let mut lines = text.lines();
    let driver = lines.find_map(|l| l.strip_prefix("cgroupDriver:"))?;
    let by_systemd = driver.trim().trim_matches(['"', '\'']) == "systemd";
    let (name, is) = default_systemd_cgroup(look)?;
    (is != by_systemd).then(|| {
        format!(
            "kubelet has cgroupDriver {}, containerd's {name} has SystemdCgroup {is}",
            driver.trim()
        )
    })
}

fn template(look: &HostFacts) -> Option<String> {
    let dirs = RANCHER
        .iter()
        .map(|d| Path::new(d).join("agent/etc/containerd"));
    let mut findings = Vec::new();
    for dir in dirs {
        let rendered = look.engine_text(&dir.join("config.toml"));
        for path in TEMPLATES.map(|name| dir.join(name)) {
            let text = look.engine_text(&path).unwrap_or_default();
            if text.trim().is_empty() || text.contains("template \"base\"") {
                continue;
            }
            let has_ours = ["runtimes.\"nvidia\"", "runtimes.nvidia"];
            if !has_ours.iter().any(|table| text.contains(table)) {
                findings.push(format!(
                    "{} neither extends the base template nor has a runtime nvidia",
                    path.display()
                ));
            } else if let Some(rendered) = &rendered
                && PendingTemplate::of(path.clone(), &text, rendered).is_some()
            {
                findings.push(format!(
                    "{} does not extend the base template, and config.toml has not been made of it yet: the next start does",
                    path.display()
                ));
            }
        }
    }
    evidence(findings)
}

fn two_owners(look: &HostFacts) -> Option<String> {
    let ours = SetupOptions::default().runtime_path;
    look.file_naming(ours.to_str()?)?;
    evidence(look.foreign().names(TraceKind::Toolkit))
        .map(|dir| format!("{dir} has programs of the GPU operator"))
}

/// Engines of Kubernetes whose files have lost what gpusetup wrote.
fn runtime_unknown(look: &HostFacts) -> Option<String> {
    let mut findings = Vec::new();
    for (engine, changes) in look.lost() {
        let name = &engine.facts().name;
        if name.starts_with("docker") {
            continue;
        }
        match changes {
            Ok(changes) => {
                let paths: Vec<String> = changes
                    .iter()
                    .map(|c| c.path.display().to_string())
                    .collect();
                findings.push(format!(
                    "{name}: {} lacks what gpusetup wrote",
                    paths.join(" and ")
                ));
            }
            Err(
                e @ Error::Config {
                    fault: ConfigFault::OtherRuntime { .. } | ConfigFault::UnfitRuntime { .. },
                    ..
                },
            ) => findings.push(format!("{name}: {e}")),
            // An unreadable file is reported by the engine's own checks.
            Err(_) => {}
        }
    }
    findings.extend(never_set_up(look).map(|(name, lacks)| format!("{name}: {lacks}")));
    evidence(findings)
}

/// Engines that run pods, that no run has set up and that have no runtime of that name, with what they lack.
fn never_set_up<'a>(look: &'a HostFacts) -> impl Iterator<Item = (&'a str, &'a str)> {
    let states = engine_states::all(look).iter().filter(|state| {
        let engine = look.engine(&state.name);
        let is_new = engine.is_some_and(|e| look.was_wanted(e).is_none());
        is_new && !state.name.starts_with("docker")
    });
    states.filter_map(|state| {
        let is_of_pods = |way: &&GpuWay| !way.is_cdi;
        let way = state.ways.iter().find(is_of_pods)?;
        Some((state.name.as_str(), way.lacks.as_deref()?))
    })
}

/// `--fix` mends what gpusetup has set up before; anything else is a setup, which shows more and asks.
fn set_up(look: &HostFacts, usual: Remedy) -> Remedy {
    let is_lost = |(engine, _): &Lost| !engine.facts().name.starts_with("docker");
    if look.lost().iter().any(is_lost) {
        return usual;
    }
    let usual = usual.in_words("Let gpusetup set the engine up.").by_hand();
    match never_set_up(look).next() {
        Some((name, _)) => usual.by_ours(Invocation::InstallEngineAsRoot(name)),
        None => usual,
    }
}
