//! The command `list`: prints paths, one per line, in the order of libnvidia-container
//! (`src/cli/list.c`): nodes, IMEX channels, MIG control, programs, libraries, sockets, firmware.

use std::path::{Path, PathBuf};

use gpu_host::{DeviceNode, FileKind, Gpu, Inventory};
use gpu_inject::request::Imex;

use super::failure::{Failure, Phase};
use super::options::{Devices, ListOptions};
use super::select::{Chosen, select};

const CAPABILITIES: &str = "/proc/driver/nvidia/capabilities";
const CAPABILITY_NODES: &str = "/dev/nvidia-caps";

/// The nodes that belong to no GPU, in libnvidia-container's order. Others come after them.
const CONTROL: [&str; 4] = [
    "/dev/nvidiactl",
    "/dev/nvidia-uvm",
    "/dev/nvidia-uvm-tools",
    "/dev/nvidia-modeset",
];

impl ListOptions {
    /// Selects everything. This is the meaning of no option, and of `--imex-channel` alone.
    pub(super) fn everything(&mut self) {
        self.devices.ids = Some("all".into());
        self.compat32 = true;
        self.libraries = true;
        self.binaries = true;
        self.ipcs = true;
        self.firmwares = true;
    }
}

/// The paths to print.
pub(super) fn paths(inventory: &Inventory, options: &ListOptions) -> Result<Vec<PathBuf>, Failure> {
    let requested = &options.devices;
    let chosen = select(inventory, requested.ids.as_deref().unwrap_or_default())?;
    let config = chosen.mig_control(&requested.mig_config, Phase::MigConfig)?;
    let monitor = chosen.mig_control(&requested.mig_monitor, Phase::MigMonitor)?;
    let mut paths = Vec::new();
    if requested.ids.is_some() {
        paths.extend(control(inventory));
        paths.extend(chosen.gpus.iter().map(|g| g.node.path.clone()));
        // With MIG control the listing below includes all slices, so single ones are left out here.
        if !config && !monitor {
            for (_, slice) in &chosen.slices {
                paths.extend(slice.access_files.iter().cloned());
                paths.extend(slice.nodes.iter().map(|n| n.path.clone()));
            }
        }
    }
    paths.extend(imex(inventory, requested));
    for (is_selected, name, node) in [
        (config, "config", &inventory.mig_control.config),
        (monitor, "monitor", &inventory.mig_control.monitor),
    ] {
        if is_selected {
            paths.extend(mig_control(&chosen, name, node.as_ref()));
        }
    }
    let compat32 = options.compat32 && options.libraries;
    for (is_selected, kind) in [
        (options.binaries, FileKind::Binary),
        (options.libraries, FileKind::Library),
        (compat32, FileKind::Library32),
        (options.ipcs, FileKind::Socket),
        (options.firmwares, FileKind::Firmware),
    ] {
        let files = inventory.driver.iter().flat_map(|d| &d.files);
        let files = files.filter(|f| is_selected && f.kind == kind);
        paths.extend(files.map(|f| f.path.clone()));
    }
    Ok(paths)
}

fn control(inventory: &Inventory) -> Vec<PathBuf> {
    let nodes = inventory.control_nodes.iter();
    let mut paths: Vec<PathBuf> = nodes.map(|c| c.node.path.clone()).collect();
    let rank = |path: &PathBuf| CONTROL.iter().position(|c| path == Path::new(c));
    paths.sort_by_key(|p| rank(p).unwrap_or(CONTROL.len()));
    paths
}

/// The paths of the requested channels. As with libnvidia-container they need not exist.
fn imex(inventory: &Inventory, requested: &Devices) -> Vec<PathBuf> {
    match &requested.imex {
        Imex::None => Vec::new(),
        Imex::All => inventory
            .imex_channels
            .iter()
            .map(|c| c.node.path.clone())
            .collect(),
        Imex::Listed(ids) => ids
            .iter()
            .map(|id| format!("/dev/nvidia-caps-imex-channels/channel{id}").into())
            .collect(),
    }
}

fn mig_control(chosen: &Chosen<'_>, name: &str, node: Option<&DeviceNode>) -> Vec<PathBuf> {
    let gpus: Vec<&&Gpu> = chosen.gpus.iter().filter(|g| g.mig_enabled).collect();
    if gpus.is_empty() {
        return Vec::new();
    }
    let mut paths = vec![PathBuf::from(format!("{CAPABILITIES}/mig/{name}"))];
    paths.extend(node.map(|n| n.path.clone()));
    for gpu in gpus {
        paths.push(format!("{CAPABILITIES}/gpu{}/mig", gpu.minor).into());
        if node.is_some() {
            paths.push(CAPABILITY_NODES.into());
            let nodes = gpu.mig.iter().flat_map(|s| &s.nodes);
            paths.extend(nodes.map(|n| n.path.clone()));
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::super::argp::{Order, parse};
    use super::super::options::LIST;
    use super::*;
    use crate::cli::testing;

    fn list(line: &str) -> Vec<String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let mut options = ListOptions::default();
        parse(&LIST, &args, Order::Nowhere, &mut options).unwrap();
        if args.is_empty() {
            options.everything();
        }
        let paths = paths(&testing::host(), &options).unwrap();
        paths.into_iter().map(|p| p.display().to_string()).collect()
    }

    #[test]
    fn everything_is_listed_in_libnvidia_containers_order() {
        let expected = [
            "/dev/nvidiactl",
            "/dev/nvidia-uvm",
            "/dev/nvidia-modeset",
            "/dev/nvidia0",
            "/dev/nvidia1",
            "/proc/driver/nvidia/capabilities/gpu1/mig/gi0/access",
            "/proc/driver/nvidia/capabilities/gpu1/mig/gi0/ci0/access",
            "/dev/nvidia-caps/nvidia-cap10",
            "/dev/nvidia-caps/nvidia-cap20",
            "/proc/driver/nvidia/capabilities/gpu1/mig/gi1/access",
            "/proc/driver/nvidia/capabilities/gpu1/mig/gi1/ci0/access",
            "/dev/nvidia-caps/nvidia-cap11",
            "/dev/nvidia-caps/nvidia-cap21",
            "/usr/bin/nvidia-smi",
            "/usr/lib/libcuda.so.580.65.06",
            "/usr/lib32/libcuda.so.580.65.06",
            "/run/nvidia-persistenced/socket",
            "/run/nvidia-fabricmanager/socket",
            "/lib/firmware/nvidia/580.65.06/gsp_ga10x.bin",
        ];
        assert_eq!(list(""), expected);
    }

    #[test]
    fn a_single_class_can_be_listed() {
        assert_eq!(list("-b"), ["/usr/bin/nvidia-smi"]);
        assert_eq!(list("--libraries"), ["/usr/lib/libcuda.so.580.65.06"]);
        assert_eq!(list("-l --compat32").len(), 2);
        assert_eq!(list("--compat32"), [""; 0]);
        let nodes = [
            "/dev/nvidiactl",
            "/dev/nvidia-uvm",
            "/dev/nvidia-modeset",
            "/dev/nvidia0",
        ];
        assert_eq!(list("--device 0"), nodes);
        assert_eq!(
            list("--imex-channel=2"),
            ["/dev/nvidia-caps-imex-channels/channel2"]
        );
    }

    #[test]
    fn mig_control_lists_its_files_instead_of_the_slices() {
        let listed = list("-d all --mig-config=all");
        assert_eq!(
            listed[5..8],
            [
                "/proc/driver/nvidia/capabilities/mig/config",
                "/dev/nvidia-caps/nvidia-cap1",
                "/proc/driver/nvidia/capabilities/gpu1/mig",
            ]
        );
        assert!(!listed.iter().any(|p| p.ends_with("/access")), "{listed:?}");
    }
}
