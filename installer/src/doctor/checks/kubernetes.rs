//! Checks of a Kubernetes node: whether kubelet and its engine agree, k3s's templates, and who
//! owns the engine's files.

use std::path::Path;

use super::containerd::default_systemd_cgroup;
use crate::doctor::checks::check::{Checks, evidence};
use crate::doctor::facts::HostFacts;
use crate::model::toolkit_traces::TraceKind;

pub const CHECKS: Checks = &[
    ("kubelet-cgroup-driver", cgroup_driver),
    ("k3s-template", template),
    ("two-owners", two_owners),
    ("cri-runtime-unknown", runtime_unknown),
];

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
    let files = dirs.flat_map(|d| TEMPLATES.map(|t| d.join(t)));
    let findings = files.filter(|path| {
        let text = look.engine_text(path).unwrap_or_default();
        let extends = text.contains("template \"base\"") || text.contains("runtimes.\"nvidia\"");
        !text.trim().is_empty() && !extends && !text.contains("runtimes.nvidia")
    });
    evidence(
        findings
            .map(|p| {
                format!(
                    "{} neither extends the base template nor has a runtime nvidia",
                    p.display()
                )
            })
            .collect(),
    )
}

fn two_owners(look: &HostFacts) -> Option<String> {
    look.receipt()?;
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
            // An unreadable file is reported by the engine's own checks.
            Err(e) if e.to_string().contains("has a runtime") => {
                findings.push(format!("{name}: {e}"));
            }
            Err(_) => {}
        }
    }
    evidence(findings)
}
