//! The CDI spec of a whole host.

use std::path::{Path, PathBuf};

use cdi::{Device, Spec};
use gpu_host::{Capabilities, Inventory};

use crate::edits::Edits;
use crate::error::Error;
use crate::plan::{self, Picked};
use crate::spec::{Nodes, to_cdi};

/// Where engines find it. The vendor's tool writes the same file: two specs of one
/// kind in one directory would cancel each other out.
pub const SPEC_PATH: &str = "/var/run/cdi/nvidia.yaml";
/// Our hook's program.
pub const HOOK_PATH: &str = "/usr/bin/gpu-container-hook";
/// Kind of our devices.
pub const KIND: &str = "nvidia.com/gpu";

/// How a spec is made.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// Our hook's program on the host.
    pub hook_path: PathBuf,
    /// Which parts of the driver; a CDI device cannot ask, so all of them.
    pub capabilities: Capabilities,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            hook_path: HOOK_PATH.into(),
            capabilities: Capabilities::ALL,
        }
    }
}

/// A spec with each GPU by index and UUID, each MIG slice by `gpu:slice` and UUID, and
/// `all`. The same inventory gives the same text.
pub fn cdi_spec(inventory: &Inventory, options: &GenerateOptions) -> Result<Spec, Error> {
    if inventory.driver.is_none() {
        return Err(Error::NoDriver);
    }
    let mut devices = Vec::new();
    let mut add = |names: Vec<String>, picked: &[Picked<'_>]| {
        let edits = edits_of(picked, options);
        devices.extend(names.into_iter().map(|name| Device {
            name,
            container_edits: to_cdi(&edits, &options.hook_path, Nodes::ByPath),
            ..Device::default()
        }));
    };
    let mut all = Vec::new();
    for gpu in &inventory.gpus {
        let parts = plan::parts(gpu);
        all.extend(parts.iter().copied());
        let names = [Some(gpu.index.to_string()), gpu.uuid.clone()];
        add(names.into_iter().flatten().collect(), &parts);
        for slice in &gpu.mig {
            let names = [
                Some(format!("{}:{}", gpu.index, slice.index)),
                slice.uuid.clone(),
            ];
            add(
                names.into_iter().flatten().collect(),
                &[Picked::Slice(gpu, slice)],
            );
        }
    }
    add(vec!["all".into()], &all);
    let mut shared = plan::shared(inventory, options.capabilities);
    shared
        .env
        .push(("NVIDIA_VISIBLE_DEVICES".into(), "void".into()));
    let mut spec = Spec {
        kind: KIND.into(),
        devices,
        container_edits: to_cdi(&shared, &options.hook_path, Nodes::ByPath),
        ..Spec::default()
    };
    spec.cdi_version = spec.minimum_version().to_owned();
    spec.validate()?;
    Ok(spec)
}

fn edits_of(picked: &[Picked<'_>], options: &GenerateOptions) -> Edits {
    let mut edits = Edits::default();
    for one in picked {
        plan::device(&mut edits, *one, options.capabilities);
    }
    edits
}

/// Files of the host that a spec names and that are not there: the spec is stale.
pub fn missing(spec: &Spec, exists: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let edits = || {
        std::iter::once(&spec.container_edits)
            .chain(spec.devices.iter().map(|d| &d.container_edits))
    };
    let nodes = edits()
        .flat_map(|e| &e.device_nodes)
        .map(|n| n.host_path.as_ref().unwrap_or(&n.path));
    let mounts = edits().flat_map(|e| &e.mounts).map(|m| &m.host_path);
    let hooks = edits().flat_map(|e| &e.hooks).map(|h| &h.path);
    let mut gone: Vec<PathBuf> = nodes
        .chain(mounts)
        .chain(hooks)
        .filter(|p| !exists(p))
        .cloned()
        .collect();
    gone.sort();
    gone.dedup();
    gone
}
