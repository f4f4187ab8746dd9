//! Checks of Podman and of the OCI hooks that it shares with CRI-O.

use crate::doctor::checks::check::{Checks, evidence};
use crate::doctor::facts::HostFacts;
use crate::doctor::remedy::{Remedies, Remedy};
use crate::engines::{oci_hooks, podman};

pub const CHECKS: Checks = &[("podman-too-old", too_old), ("hooks-leftover", hooks)];

pub const REMEDIES: Remedies = &[("hooks-leftover", remove)];

fn too_old(look: &HostFacts) -> Option<String> {
    let version = look.engine_version("podman").filter(|v| *v > (0, 0))?;
    (version < podman::CDI).then(|| format!("version {}.{}", version.0, version.1))
}

fn hooks(look: &HostFacts) -> Option<String> {
    let reads = |e: &&str| look.engine(e).is_some();
    ["podman", "crio"].iter().find(|e| reads(e))?;
    evidence(
        oci_hooks::files(look.host)
            .iter()
            .map(|p| p.display().to_string())
            .collect(),
    )
}

fn remove(look: &HostFacts, usual: Remedy) -> Remedy {
    let files = oci_hooks::files(look.host);
    let files: Vec<String> = files.iter().map(|p| p.display().to_string()).collect();
    usual.by(format!("rm {}", files.join(" ")))
}
