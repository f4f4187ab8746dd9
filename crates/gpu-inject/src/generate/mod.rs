//! Generates the CDI specs of a host from its inventory.

mod devices;
pub mod host_files;
pub mod inventory_store;
mod options;
mod other_vendors;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use cdi::{ContainerEdits, Device, Spec};
use gpu_host::{Feature, Inventory, Source};

use crate::edits::{BindMount, Edits, GpuIdentity, MountKind};
use crate::error::Error;
use crate::oci::{NodeForm, to_cdi};
use crate::plan;

pub use options::{GenerateOptions, HOOK_PATH, KIND, NameStrategy, SPEC_PATH, SpecContent};
pub use other_vendors::other_vendor_spec;

/// Makes the spec that the options' mode asks for. The same inventory gives the same text.
pub fn cdi_spec(inventory: &Inventory, options: &GenerateOptions) -> Result<Spec, Error> {
    let builder = SpecBuilder {
        inventory,
        options,
        missing: inventory.missing_nodes.iter().collect(),
    };
    match options.mode {
        SpecContent::Gpu => builder.gpus(),
        SpecContent::Management => builder.management(),
        SpecContent::Feature(feature) => builder.feature(feature),
        SpecContent::Imex => builder.imex(),
    }
}

struct SpecBuilder<'a> {
    inventory: &'a Inventory,
    options: &'a GenerateOptions,
    /// Host paths of nodes that do not exist yet.
    missing: HashSet<&'a PathBuf>,
}

impl SpecBuilder<'_> {
    /// The spec with each GPU, each slice, and `all`. A WSL host has only `all`, because Windows
    /// has one node for all GPUs.
    fn gpus(&self) -> Result<Spec, Error> {
        let mut shared = self.driver()?;
        let selected = devices::spec_devices(self.inventory, self.options)?;
        let mut devices = Vec::new();
        // All links go to the spec's own hook, so that one hook runs however many devices a
        // container gets: an engine runs the hook of the spec and those of each device.
        for part in selected.iter().flat_map(|one| &one.parts) {
            shared.links_by_nodes.extend(self.edits_of(&[*part]).links);
        }
        shared.links_by_nodes.sort_by(|a, b| a.path.cmp(&b.path));
        shared.links_by_nodes.dedup();
        if self.inventory.source != Source::Wsl {
            for one in &selected {
                let mut edits = self.edits_of(&one.parts);
                edits.links.clear();
                // A partitioned GPU without slices. It is left out, since engines refuse a spec with an empty device.
                if edits == Edits::default() {
                    continue;
                }
                devices.extend(one.names.iter().map(|name| self.device(name, &edits)));
            }
        }
        shared.gpus = self.identities(&selected);
        if self.options.all {
            let outermost = selected.iter().filter(|one| !one.is_within_another);
            let parts = outermost.flat_map(|one| &one.parts);
            let mut edits = Edits::default();
            let mut paths = HashSet::new();
            // Each part has its own edits, and `paths` removes duplicates: searching one growing
            // list would take quadratic time on hosts with many GPUs.
            for part in parts.map(|part| self.edits_of(&[*part])) {
                let is_new = |n: &gpu_host::DeviceNode| paths.insert(n.path.clone());
                edits
                    .devices
                    .extend(part.devices.into_iter().filter(is_new));
            }
            if edits == Edits::default() {
                // The host has no GPUs yet. The variable keeps the device from being empty.
                edits.env.push(void());
            }
            devices.push(self.device("all", &edits));
        }
        shared.env.push(void());
        self.spec(devices, &shared)
    }

    /// Which GPU each node stands for. Without the kernel's list there would be nothing to compare them with.
    fn identities(&self, selected: &[devices::SpecDevice<'_>]) -> Vec<GpuIdentity> {
        let listed = self.inventory.freshness.gpus.iter().flatten();
        let listed: HashSet<_> = listed.map(|gpu| gpu.pci).collect();
        let mut identities: Vec<GpuIdentity> = Vec::new();
        for gpu in selected
            .iter()
            .flat_map(|one| &one.parts)
            .map(|part| part.gpu())
        {
            if listed.contains(&gpu.pci) && identities.iter().all(|known| known.pci != gpu.pci) {
                identities.push(GpuIdentity {
                    minor: gpu.minor,
                    index: gpu.index,
                    pci: gpu.pci,
                    uuid: gpu.uuid.clone(),
                });
            }
        }
        identities
    }

    fn management(&self) -> Result<Spec, Error> {
        let mut shared = self.driver()?;
        shared.env.push(void());
        // A container that sets up MIG needs the driver to make the nodes of new slices.
        shared.forbid_device_node_creation = false;
        let host = self.inventory;
        let mut nodes = Edits::default();
        let mut paths: HashSet<_> = shared.devices.iter().map(|n| n.path.clone()).collect();
        let mut add = |node: &gpu_host::DeviceNode| {
            if paths.insert(node.path.clone()) {
                nodes.devices.push(node.clone());
            }
        };
        for gpu in &host.gpus {
            add(&gpu.node);
            gpu.mig.iter().flat_map(|s| &s.nodes).for_each(&mut add);
        }
        let control = &host.mig_control;
        control.config.iter().for_each(&mut add);
        control.monitor.iter().for_each(&mut add);
        host.imex_channels.iter().for_each(|c| add(&c.node));
        let switches = host
            .features
            .iter()
            .filter(|f| f.feature == Feature::Nvswitch);
        switches.flat_map(|f| &f.nodes).for_each(&mut add);
        if nodes == Edits::default() {
            nodes.env.push(void());
        }
        self.spec(vec![self.device("all", &nodes)], &shared)
    }

    fn feature(&self, feature: Feature) -> Result<Spec, Error> {
        let mut features = self.inventory.features.iter();
        let Some(available) = features.find(|f| f.feature == feature) else {
            return Err(nothing(feature.word()));
        };
        let edits = Edits {
            devices: available.nodes.clone(),
            mounts: available
                .files
                .iter()
                .map(|file| BindMount {
                    kind: MountKind::File,
                    host_path: file.host_path.clone(),
                    path: file.path.clone(),
                    need: file.need,
                })
                .collect(),
            ..Edits::default()
        };
        self.spec(vec![self.device("all", &edits)], &Edits::default())
    }

    fn imex(&self) -> Result<Spec, Error> {
        let channels = devices::chosen_channels(self.inventory, self.options)?;
        if channels.is_empty() {
            return Err(nothing("imex"));
        }
        let edits = |nodes: Vec<_>| Edits {
            devices: nodes,
            ..Edits::default()
        };
        let mut devices: Vec<Device> = channels
            .iter()
            .map(|c| self.device(&c.id.to_string(), &edits(vec![c.node.clone()])))
            .collect();
        if self.options.all {
            let nodes = channels.iter().map(|c| c.node.clone()).collect();
            devices.push(self.device("all", &edits(nodes)));
        }
        self.spec(devices, &Edits::default())
    }

    fn driver(&self) -> Result<Edits, Error> {
        if self.inventory.driver.is_none() {
            return Err(Error::NoDriver);
        }
        Ok(plan::shared(self.inventory, self.options.capabilities))
    }

    fn edits_of(&self, selected: &[plan::SelectedDevice<'_>]) -> Edits {
        let mut edits = Edits::default();
        let mut nodes = plan::NodeSet::of(&mut edits);
        for one in selected {
            plan::device(&mut nodes, *one, self.options.capabilities);
        }
        edits
    }

    fn device(&self, name: &str, edits: &Edits) -> Device {
        Device {
            name: name.to_owned(),
            container_edits: self.cdi(edits),
            ..Device::default()
        }
    }

    /// The edits as CDI edits. Nodes are given by path, so that a spec outlives a reload of the
    /// modules. A node that does not exist yet is given by number, because engines need the path
    /// to exist before they start a container.
    fn cdi(&self, edits: &Edits) -> ContainerEdits {
        let mut cdi_edits = to_cdi(edits, &self.options.hook_path, NodeForm::ByPath);
        if !self.missing.is_empty() {
            let numbered = to_cdi(edits, &self.options.hook_path, NodeForm::Numbered);
            let nodes = cdi_edits.device_nodes.iter_mut().zip(numbered.device_nodes);
            for ((by_path, numbered), node) in nodes.zip(&edits.devices) {
                if self.missing.contains(&node.host_path) {
                    *by_path = numbered;
                }
            }
        }
        cdi_edits
    }

    fn spec(&self, devices: Vec<Device>, shared: &Edits) -> Result<Spec, Error> {
        let kind = self.options.kind(self.options.mode.kind());
        finished(kind, devices, self.cdi(shared))
    }
}

fn finished(kind: String, devices: Vec<Device>, shared: ContainerEdits) -> Result<Spec, Error> {
    let mut spec = Spec {
        kind,
        devices,
        container_edits: shared,
        ..Spec::default()
    };
    spec.cdi_version = spec.minimum_version().to_owned();
    spec.validate()?;
    Ok(spec)
}

/// The variable that keeps a hook or runtime further down from injecting GPUs a second time.
fn void() -> (String, String) {
    ("NVIDIA_VISIBLE_DEVICES".into(), "void".into())
}

fn nothing(what: &str) -> Error {
    Error::NothingToDescribe(what.to_owned())
}

/// The host files that a spec names and that do not exist, sorted. If there are any, the spec is stale.
pub fn missing(spec: &Spec, exists: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let edits = || {
        std::iter::once(&spec.container_edits)
            .chain(spec.devices.iter().map(|d| &d.container_edits))
    };
    let nodes = edits()
        .flat_map(|e| &e.device_nodes)
        // A node given by number needs no node on the host.
        .filter(|n| n.major.is_none())
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
