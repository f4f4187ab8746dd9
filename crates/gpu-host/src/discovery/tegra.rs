//! Jetson and other Tegra systems: the integrated GPU and the files that CSV lists name for it.
//!
//! L4T ships the lists in [`CSV_DIR`]. A line is `dev`, `lib`, `sym` or `dir`, a comma and a
//! path, which may be a shell pattern (nvidia-container-toolkit 1.20
//! `internal/platform-support/tegra/csv`). A listed file that is a symbolic link on the host is
//! a symbolic link in the container. Links among its parent directories are not resolved: the
//! container gets the path as the list has it.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::nodes::Dev;
use super::options::{Error, Options};
use crate::driver::version::loaded_version;
use crate::formats::elf;
use crate::inventory::{
    Capabilities, ControlNode, DeviceNode, Driver, DriverFile, FileKind, Gpu, Inventory, Link,
    Need, PciAddress,
};
use crate::root::Root;
use crate::root::glob;

/// The directory with L4T's lists.
pub(crate) const CSV_DIR: &str = "/etc/nvidia-container-runtime/host-files-for-container.d";
/// The lists that every container gets (nvidia-container-toolkit 1.20 `internal/platform-support/tegra/csv`).
const BASE: [&str; 3] = ["devices.csv", "drivers.csv", "l4t.csv"];
/// Given in addition to what the lists name (nvidia-container-toolkit 1.20 `pkg/nvcdi/lib-csv.go`).
const RELEASE: &str = "/etc/nv_tegra_release";
/// The kernel's own limit on symbolic links in one path (MAXSYMLINKS).
const LINK_LIMIT: usize = 40;
/// The node that stands for the GPU, first match first: Thor, Orin, older drivers.
const GPU_NODES: [&str; 3] = [
    "/dev/nvidia[0-9]*",
    "/dev/nvgpu/igpu0/ctrl",
    "/dev/nvhost-gpu",
];

/// Whether the host has CSV lists.
pub(crate) fn has_csv_files(root: &Root) -> bool {
    !csv_files(root).is_empty()
}

/// Fills in device, files and version from the base lists, or from those that the options name.
pub(crate) fn fill(
    inventory: &mut Inventory,
    options: &Options,
    dev: &Dev<'_>,
) -> Result<(), Error> {
    let requested = options.csv_files.iter().cloned();
    let (base, more): (Vec<PathBuf>, Vec<PathBuf>) = if options.csv_files.is_empty() {
        csv_files(dev.root).into_iter().partition(|path| {
            path.file_name()
                .is_some_and(|n| BASE.iter().any(|b| n == *b))
        })
    } else {
        (requested.collect(), Vec::new())
    };
    let mut lists = CsvLists {
        root: dev.root,
        driver_root: &options.driver_root,
        nodes: Vec::new(),
        files: BTreeMap::new(),
    };
    for path in &base {
        lists.read(dev, path)?;
    }
    lists.lib(Path::new(RELEASE));
    let base = lists.files.clone();
    let nodes = std::mem::take(&mut lists.nodes);
    for path in &more {
        lists.read(dev, path)?;
    }
    inventory.tegra_more = lists
        .files
        .into_values()
        .filter(|f| !base.contains_key(&f.path))
        .collect();
    inventory.driver = Some(Driver {
        version: loaded_version(dev.root).unwrap_or_default(),
        cuda: None,
        files: base.into_values().collect(),
    });
    devices(inventory, dev.root, nodes);
    Ok(())
}

/// Makes one node the GPU's own and the others control nodes, which are needed with it.
fn devices(inventory: &mut Inventory, root: &Root, mut nodes: Vec<DeviceNode>) {
    let is_gpu =
        |pattern: &str, n: &DeviceNode| n.path.to_str().is_some_and(|p| glob::fits(pattern, p));
    let at = GPU_NODES
        .iter()
        .find_map(|pattern| nodes.iter().position(|n| is_gpu(pattern, n)))
        .unwrap_or(0);
    if at >= nodes.len() {
        return;
    }
    let node = nodes.remove(at);
    let model = root.read_to_string("/proc/device-tree/model").ok();
    inventory.gpus.push(Gpu {
        index: 0,
        minor: node.minor,
        uuid: None,
        name: model.map(|m| m.trim_end_matches(['\0', '\n']).to_owned()),
        brand: None,
        compute_capability: None,
        pci: PciAddress::default(),
        node,
        drm: Vec::new(),
        drm_links: Vec::new(),
        mig_enabled: false,
        mig: Vec::new(),
    });
    inventory.control_nodes = nodes
        .into_iter()
        .map(|node| ControlNode {
            node,
            capabilities: Capabilities::ALL,
        })
        .collect();
}

fn csv_files(root: &Root) -> Vec<PathBuf> {
    root.read_dir(CSV_DIR)
        .unwrap_or_default()
        .iter()
        .map(|name| Path::new(CSV_DIR).join(name))
        .filter(|path| path.extension().is_some_and(|e| e == "csv"))
        .collect()
}

struct CsvLists<'a> {
    root: &'a Root,
    driver_root: &'a Path,
    nodes: Vec<DeviceNode>,
    files: BTreeMap<PathBuf, DriverFile>,
}

impl CsvLists<'_> {
    fn read(&mut self, dev: &Dev<'_>, path: &Path) -> Result<(), Error> {
        let text = self.root.read_to_string(path).map_err(Error::NoCsv)?;
        for (line, number) in text.lines().zip(1..) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = || Error::Csv {
                path: path.to_owned(),
                line: number,
                text: line.to_owned(),
            };
            let (keyword, pattern) = line.split_once(',').ok_or_else(bad)?;
            let pattern = Path::new(pattern.trim());
            if !pattern.is_absolute() || pattern.components().any(|c| c == Component::ParentDir) {
                return Err(bad());
            }
            match keyword.trim() {
                "dev" => {
                    for node in dev.matching(&pattern.to_string_lossy()) {
                        if !self.nodes.contains(&node) {
                            self.nodes.push(node);
                        }
                    }
                }
                "lib" | "sym" => self.each(pattern, Self::lib),
                "dir" => self.each(pattern, Self::dir),
                _ => return Err(bad()),
            }
        }
        Ok(())
    }

    /// Calls `take` for each path that matches. A path that the host lacks is left out, because
    /// one list serves several boards.
    fn each(&mut self, pattern: &Path, mut take: impl FnMut(&mut Self, &Path)) {
        for host_path in glob::expand(self.root, &self.on_host(pattern)) {
            let inner = host_path
                .strip_prefix(self.driver_root)
                .unwrap_or(&host_path);
            take(self, &Path::new("/").join(inner));
        }
    }

    /// Adds the file at the end of a chain of links, and the links.
    fn lib(&mut self, path: &Path) {
        let mut links = Vec::new();
        let mut end = path.to_owned();
        while let Ok(target) = self.root.read_link(self.on_host(&end)) {
            if links.len() == LINK_LIMIT {
                return;
            }
            let next = link_target(&end, &target);
            links.push(Link { path: end, target });
            end = next;
        }
        let Ok(host_path) = self.root.canonicalize(self.on_host(&end)) else {
            return;
        };
        let object = self.root.open_file(&host_path).ok().and_then(elf::read);
        let is_library = end
            .file_name()
            .and_then(|n| n.to_str())
            .is_some_and(|n| n.contains(".so"));
        let (kind, soname) = match object.filter(|_| is_library) {
            Some(object) if object.is_32 => (FileKind::Library32, object.soname),
            Some(object) => (FileKind::Library, object.soname),
            None => (FileKind::Config, None),
        };
        self.add(end, host_path, kind, soname, links);
    }

    fn dir(&mut self, path: &Path) {
        if let Ok(host_path) = self.root.canonicalize(self.on_host(path)) {
            self.add(
                path.to_owned(),
                host_path,
                FileKind::Config,
                None,
                Vec::new(),
            );
        }
    }

    fn add(
        &mut self,
        path: PathBuf,
        host_path: PathBuf,
        kind: FileKind,
        soname: Option<String>,
        links: Vec<Link>,
    ) {
        let file = self.files.entry(path.clone()).or_insert(DriverFile {
            kind,
            path,
            host_path,
            capabilities: Capabilities::ALL,
            soname,
            links: Vec::new(),
            need: Need::Required,
        });
        for link in links {
            if !file.links.contains(&link) {
                file.links.push(link);
            }
        }
    }

    fn on_host(&self, path: &Path) -> PathBuf {
        self.driver_root
            .join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// Where a link at `path` with this target leads. `..` is resolved lexically, because the
/// directories on the way are the container's and may be no links there.
fn link_target(path: &Path, target: &Path) -> PathBuf {
    let joined = path.parent().unwrap_or(Path::new("/")).join(target);
    let mut clean = PathBuf::from("/");
    for part in joined.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}
