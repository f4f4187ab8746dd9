//! What this host is. The rows are judged by it, so it is read from the system and not from the programs under test.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::command::{find, run};
use crate::report::{Gpu, Host};

/// Programs whose versions the report shows, with the arguments that print the version.
const PROGRAMS: [(&str, &[&str]); 9] = [
    ("gpusetup", &["--version"]),
    ("dockerd", &["--version"]),
    ("docker", &["--version"]),
    ("containerd", &["--version"]),
    ("podman", &["--version"]),
    ("runc", &["--version"]),
    ("crun", &["--version"]),
    ("/usr/bin/nvidia-ctk", &["--version"]),
    ("nvidia-smi", &["--version"]),
];

/// Describes the running host; `root` is `/` except in tests.
pub(crate) fn describe(root: &Path) -> Host {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let os_release = read("etc/os-release");
    let memory = read("proc/meminfo");
    let kib = memory
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:"))
        .and_then(|l| l.split_whitespace().next());
    Host {
        name: read("proc/sys/kernel/hostname").trim().to_owned(),
        distribution: os_field(&os_release, "PRETTY_NAME").unwrap_or_else(|| "unknown".into()),
        kernel: read("proc/sys/kernel/osrelease").trim().to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        memory_mib: kib.and_then(|k| k.parse::<u64>().ok()).unwrap_or(0) / 1024,
        cgroup: cgroup(root),
        systemd: root.join("run/systemd/system").is_dir(),
        driver: driver(root),
        cuda: None,
        gpus: gpus(root),
        programs: Vec::new(),
    }
}

fn os_field(text: &str, name: &str) -> Option<String> {
    let value = text
        .lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches('"').to_owned())
}

fn cgroup(root: &Path) -> String {
    let at = root.join("sys/fs/cgroup");
    let word = if at.join("cgroup.controllers").exists() {
        "v2"
    } else if at.join("unified/cgroup.controllers").exists() {
        "v1 with v2 beside it"
    } else if at.join("devices").exists() || at.join("memory").exists() {
        "v1"
    } else {
        "none"
    };
    word.to_owned()
}

/// The loaded kernel module's version.
pub(crate) fn driver(root: &Path) -> Option<String> {
    let text = fs::read_to_string(root.join("proc/driver/nvidia/version")).ok()?;
    let line = text.lines().find(|l| l.contains("NVRM version"))?;
    line.split_whitespace()
        .find(|w| is_version(w))
        .map(str::to_owned)
}

fn is_version(word: &str) -> bool {
    word.contains('.')
        && word.chars().all(|c| c.is_ascii_digit() || c == '.')
        && word.starts_with(|c: char| c.is_ascii_digit())
}

/// The GPUs that procfs lists, in PCI order, which is also the driver's order.
pub(crate) fn gpus(root: &Path) -> Vec<Gpu> {
    let at = root.join("proc/driver/nvidia/gpus");
    let mut gpus = BTreeMap::new();
    for entry in fs::read_dir(at).into_iter().flatten().flatten() {
        let text = fs::read_to_string(entry.path().join("information")).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(name))?;
            Some(line.trim_start_matches(':').trim().to_owned())
        };
        if field("GPU Excluded").is_some_and(|e| e == "Yes") {
            continue;
        }
        let Some(minor) = field("Device Minor").and_then(|m| m.parse().ok()) else {
            continue;
        };
        let pci = entry.file_name().to_string_lossy().into_owned();
        gpus.insert(
            pci.clone(),
            Gpu {
                index: 0,
                minor,
                model: field("Model").unwrap_or_default(),
                uuid: field("GPU UUID").unwrap_or_default(),
                pci,
                slices: slices(root, minor),
            },
        );
    }
    let mut gpus: Vec<Gpu> = gpus.into_values().collect();
    for (index, gpu) in (0..).zip(&mut gpus) {
        gpu.index = index;
    }
    gpus
}

/// How many compute instances a GPU has: `capabilities/gpuN/mig/giA/ciB`.
fn slices(root: &Path, minor: u32) -> usize {
    let at = root.join(format!("proc/driver/nvidia/capabilities/gpu{minor}/mig"));
    let named = |dir: &Path, prefix: &'static str| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries
            .filter(move |e| e.file_name().to_string_lossy().starts_with(prefix))
            .map(|e| e.path())
            .collect::<Vec<_>>()
    };
    named(&at, "gi")
        .iter()
        .map(|gi| named(gi, "ci").len())
        .sum()
}

/// The first line that each installed program prints about its version.
pub(crate) fn versions() -> Vec<(String, String)> {
    let installed = PROGRAMS.iter().filter(|(name, _)| find(name).is_some());
    installed
        .map(|(name, arguments)| {
            let outcome = run(Command::new(name).args(*arguments), Duration::from_secs(5));
            let version = if outcome.is_success() {
                outcome
                    .out
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .to_owned()
            } else {
                format!("does not print its version: {}", outcome.failure())
            };
            ((*name).to_owned(), version)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_host_is_read() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/gpu-host/tests/h200");
        let host = describe(&root);
        assert_eq!(host.driver.as_deref(), Some("580.159.04"));
        let gpu = &host.gpus[0];
        assert_eq!(
            (host.gpus.len(), gpu.minor, gpu.model.as_str()),
            (1, 0, "NVIDIA H200")
        );
        assert_eq!(gpu.uuid, "GPU-00000000-1111-2222-3333-444444444444");
        assert_eq!(gpu.slices, 0);
    }
}
