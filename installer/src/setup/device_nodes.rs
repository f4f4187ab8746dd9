//! Finds the device nodes that cannot exist yet, because their kernel module is not loaded.

use std::path::Path;

use gpu_host::Inventory;

/// Device nodes that cannot be created before their module is loaded, with that module.
const MODULES: [(&str, &str); 2] = [
    ("/dev/nvidia-uvm", "nvidia-uvm"),
    ("/dev/nvidia-modeset", "nvidia-modeset"),
];

/// Modules that have to be loaded before their device nodes can be created.
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
