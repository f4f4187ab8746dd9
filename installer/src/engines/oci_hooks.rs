//! Finds hooks of the vendor's old setup that engines still run. In a container that gets its GPUs
//! from CDI or the shim, such a hook runs as well and makes it fail (toolkit #1246).

use std::path::{Path, PathBuf};

use crate::host::Host;

/// Directories that Podman reads for root; CRI-O reads the first (podman(1), `--hooks-dir`;
/// crio.conf(5), `hooks_dir`).
const DIRS: [&str; 2] = [
    "/usr/share/containers/oci/hooks.d",
    "/etc/containers/oci/hooks.d",
];

/// Hooks of Podman and CRI-O that an administrator has put there.
pub const CONFIG_PATTERNS: &[&str] = &["/etc/containers/oci/hooks.d/*.json"];

/// A warning for each such file.
pub fn leftovers(host: &Host) -> Vec<String> {
    let remark = |path: &PathBuf| {
        format!(
            "{} makes podman and CRI-O run a hook of the NVIDIA toolkit, which clashes with CDI and with our runtime: remove that file",
            path.display()
        )
    };
    files(host).iter().map(remark).collect()
}

/// The same for the directories that one engine is told to read besides.
pub fn leftovers_in(host: &Host, dirs: &[&str], engine: &str) -> Vec<String> {
    let others = dirs
        .iter()
        .filter(|dir| !DIRS.contains(&dir.trim_end_matches('/')));
    let remark = |path: &PathBuf| {
        format!(
            "{} makes {engine} run a hook of the NVIDIA toolkit, which clashes with CDI and with our runtime: remove that file",
            path.display()
        )
    };
    files_in(host, others.copied()).iter().map(remark).collect()
}

/// The files of such hooks.
pub fn files(host: &Host) -> Vec<PathBuf> {
    files_in(host, DIRS)
}

fn files_in<'a>(host: &Host, dirs: impl IntoIterator<Item = &'a str>) -> Vec<PathBuf> {
    let mut hooks = Vec::new();
    for dir in dirs {
        for name in host.root().read_dir(dir).unwrap_or_default() {
            let path = Path::new(dir).join(name);
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            let text = host.lossy_text(&path).unwrap_or_default();
            if ["nvidia-container-runtime-hook", "nvidia-container-toolkit"]
                .iter()
                .any(|program| text.contains(program))
            {
                hooks.push(path);
            }
        }
    }
    hooks
}
