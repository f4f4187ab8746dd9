//! Detects other tools that write a CDI spec for this host's GPUs. With two specs of one kind in a
//! directory engines refuse the devices of both, and a file that two tools write in turns is right
//! only by chance.

use std::path::Path;

use cdi::SPEC_DIRS;
use gpu_host::Root;
use gpu_inject::generate::host_files::{is_of_our_kind, is_ours};

/// The unit of nvidia-container-toolkit 1.18 and later (deployments/systemd).
const UNIT: &str = "nvidia-cdi-refresh.service";
const UNIT_DIRS: [&str; 3] = [
    "/etc/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// Files that start the unit (deployments/systemd and deployments/udev of the toolkit).
const STARTS: [&str; 4] = [
    "multi-user.target.wants/nvidia-cdi-refresh.service",
    "multi-user.target.wants/nvidia-cdi-refresh.path",
    "/usr/lib/udev/rules.d/99-nvidia-cdi-refresh.rules",
    "/lib/udev/rules.d/99-nvidia-cdi-refresh.rules",
];

/// Another tool's spec, or its unit that would write one. `None` if there is neither.
pub(super) fn who_describes(root: &Root) -> Option<String> {
    spec(root).or_else(|| unit(root))
}

fn spec(root: &Root) -> Option<String> {
    for dir in SPEC_DIRS {
        for name in root.read_dir(dir).unwrap_or_default() {
            let path = Path::new(dir).join(name);
            let is_spec = path.extension().is_some_and(|e| e == "json" || e == "yaml");
            let text = root.read_to_string(&path);
            if is_spec && text.is_ok_and(|text| is_of_our_kind(&text) && !is_ours(&text)) {
                return Some(path.display().to_string());
            }
        }
    }
    None
}

/// The other tool's unit, if it is enabled and neither masked nor disabled by gpusetup.
fn unit(root: &Root) -> Option<String> {
    let files = UNIT_DIRS.map(|dir| Path::new(dir).join(UNIT));
    let file = files.iter().find(|f| root.symlink_metadata(f).is_ok())?;
    let is_masked = root.read(file).map_or(true, |text| text.is_empty());
    let drop_in = format!("/etc/systemd/system/{UNIT}.d/50-gpusetup.conf");
    let is_started = STARTS.iter().any(|s| {
        UNIT_DIRS
            .iter()
            .any(|dir| root.exists(Path::new(dir).join(s)))
    });
    (!is_masked && is_started && !root.exists(drop_in)).then(|| UNIT.to_owned())
}
