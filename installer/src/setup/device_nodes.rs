//! Device nodes that this host's /dev cannot have yet, and why.

use std::path::Path;

use gpu_host::Inventory;

/// Modules whose nodes cannot be made before they are loaded, by such a node.
const MODULES: [(&str, &str); 2] = [
    ("/dev/nvidia-uvm", "nvidia-uvm"),
    ("/dev/nvidia-modeset", "nvidia-modeset"),
];

/// Modules that have to be loaded before their nodes can be made.
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
