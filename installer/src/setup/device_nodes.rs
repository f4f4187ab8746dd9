//! Device nodes that this host's /dev lacks.

use std::path::Path;

use gpu_host::{DeviceNode, Inventory};
use gpu_inject::generate::host_files;

use crate::error::Error;
use crate::host::Host;

/// Modules whose nodes cannot be made before they are loaded, by such a node.
const MODULES: [(&str, &str); 2] = [
    ("/dev/nvidia-uvm", "nvidia-uvm"),
    ("/dev/nvidia-modeset", "nvidia-modeset"),
];

/// Makes these nodes; one that is there meanwhile stays.
pub fn make_all<'a>(host: &Host, nodes: impl Iterator<Item = &'a DeviceNode>) -> Result<(), Error> {
    for node in nodes {
        log::debug!("make node {}", node.host_path.display());
        host_files::make_node(host.root(), node)
            .map_err(Error::file(&node.host_path, "make device node"))?;
    }
    Ok(())
}

pub fn not_loaded(inventory: &Inventory) -> Vec<&'static str> {
    let has = |path: &str| {
        let mut nodes = inventory.control_nodes.iter();
        nodes.any(|c| c.node.path == Path::new(path))
    };
    MODULES
        .into_iter()
        .filter(|(path, _)| !has(path))
        .map(|(_, module)| module)
        .collect()
}
