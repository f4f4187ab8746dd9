//! Checks of CRI-O: its files and its runtimes.

use crate::doctor::checks::check::{Checks, evidence};
use crate::doctor::facts::HostFacts;
use crate::doctor::remedy::{Remedies, Remedy};

pub const CHECKS: Checks = &[
    ("crio-toml", toml),
    ("crio-stray-file", stray),
    ("crio-runtime-gone", runtime_gone),
    ("crio-default-unknown", default_unknown),
];

pub const REMEDIES: Remedies = &[("crio-runtime-gone", take_place)];

/// Runtimes that CRI-O defines by itself (pkg/config, `DefaultConfig`).
const BUILT_IN: [&str; 3] = ["runc", "crun", ""];
/// Endings that editors and package managers give to their backup copies.
const COPIES: [&str; 10] = [
    "~",
    ".swp",
    ".bak",
    ".orig",
    ".old",
    ".save",
    ".dpkg-old",
    ".dpkg-dist",
    ".rpmsave",
    ".rpmnew",
];

fn toml(look: &HostFacts) -> Option<String> {
    look.invalid(look.crio()?)
}

fn stray(look: &HostFacts) -> Option<String> {
    let is_copy = |name: &str| COPIES.iter().any(|end| name.ends_with(end));
    let files = look.entries(look.crio_drop_ins()?).into_iter();
    let findings = files.filter(|p| is_copy(&p.file_name().unwrap_or_default().to_string_lossy()));
    evidence(
        findings
            .map(|p| format!("{} is read as a drop-in", p.display()))
            .collect(),
    )
}

fn dangling(look: &HostFacts) -> Option<Vec<String>> {
    let merged = look.ok(look.crio()?)?;
    let mut findings = Vec::new();
    for (name, path, program) in merged.programs() {
        if program.starts_with('/') && !look.exists(&program) && !is_ours(&program) {
            findings.push(format!(
                "runtime {name:?} in {} starts {program}, which is not there",
                path.display()
            ));
        }
    }
    Some(findings)
}

fn runtime_gone(look: &HostFacts) -> Option<String> {
    evidence(dangling(look)?)
}

fn take_place(look: &HostFacts, usual: Remedy) -> Remedy {
    usual.taking_places(&dangling(look).unwrap_or_default())
}

/// Whether it is our own program: `programs-gone` reports that it is missing.
fn is_ours(program: &str) -> bool {
    crate::model::setup_options::SetupOptions::default().runtime_path
        == std::path::Path::new(program)
}

fn default_unknown(look: &HostFacts) -> Option<String> {
    let merged = look.ok(look.crio()?)?;
    let name = merged.text(&["crio", "runtime", "default_runtime"])?;
    let is_known = BUILT_IN.contains(&name)
        || merged.runtime(name).is_some()
        || (name == crate::model::setup_options::SetupOptions::default().runtime_name
            && look.has_crio_drop_in());
    (!is_known)
        .then(|| format!("default_runtime is {name:?}, and no runtime of that name is there"))
}
