//! Walks a host through changes of its GPUs before and after they are described, and asks for each by every name and in every
//! way: a container gets the right GPU or is refused.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fake_driver::elf::shared_object;
use gpu_host::{Inventory, NvmlGpu, NvmlReading, NvmlUse, Options, Root, discover};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use proptest::prelude::*;
use serde_json::json;

use super::ensure_by;
use crate::generate::{SPEC_PATH, host_files, inventory_store};
use crate::oci::{ContainerView, read_arguments};
use crate::plan::plan;
use crate::policy::Policy;
use crate::request::Request;

/// A GPU of the machine, and what has become of it.
#[allow(clippy::struct_excessive_bools, reason = "each is an event of its own")]
#[derive(Clone, Debug)]
struct Machine {
    slot: u8,
    minor: u32,
    uuid: String,
    has_node: bool,
    /// Bound to the driver, which then lists it.
    is_bound: bool,
    is_excluded: bool,
    /// Fell off the bus, or was not initialized: the kernel lists it and NVML has no answer.
    is_lost: bool,
    /// The driver has used it, so it tells the UUID.
    is_known: bool,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Node(usize),
    Bind(usize),
    Exclude(usize),
    Lose(usize),
    Use(usize),
    /// Two GPUs change their minors, as after a new enumeration.
    Renumber(usize, usize),
    /// Another GPU is in the slot.
    Replace(usize),
    /// The unified memory module is loaded again and has another major.
    ReloadUvm,
}

fn events(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Event>> {
    let one = 0..5_usize;
    let event = prop_oneof![
        one.clone().prop_map(Event::Node),
        one.clone().prop_map(Event::Bind),
        one.clone().prop_map(Event::Exclude),
        one.clone().prop_map(Event::Lose),
        one.clone().prop_map(Event::Use),
        (one.clone(), one.clone()).prop_map(|(a, b)| Event::Renumber(a, b)),
        one.prop_map(Event::Replace),
        Just(Event::ReloadUvm),
    ];
    prop::collection::vec(event, count)
}

struct World {
    dir: tempfile::TempDir,
    gpus: Vec<Machine>,
    uvm: u32,
}

impl World {
    fn new(count: u8) -> Self {
        let gpu = |slot: u8| Machine {
            slot,
            minor: slot.into(),
            uuid: format!("GPU-{slot}a"),
            has_node: true,
            is_bound: true,
            is_excluded: false,
            is_lost: false,
            is_known: true,
        };
        let world = Self {
            dir: tempfile::tempdir().unwrap(),
            gpus: (0..count).map(gpu).collect(),
            uvm: 511,
        };
        let library = "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.65.06";
        let library = world.dir.path().join(library);
        fs::create_dir_all(library.parent().unwrap()).unwrap();
        fs::write(library, shared_object("libnvidia-ml.so.1", false)).unwrap();
        world.write();
        world
    }

    fn change(&mut self, event: Event) {
        let count = self.gpus.len();
        let gpu = |n: usize| n % count;
        match event {
            Event::Node(n) => self.gpus[gpu(n)].has_node ^= true,
            Event::Bind(n) => self.gpus[gpu(n)].is_bound ^= true,
            Event::Exclude(n) => self.gpus[gpu(n)].is_excluded ^= true,
            Event::Lose(n) => self.gpus[gpu(n)].is_lost ^= true,
            Event::Use(n) => self.gpus[gpu(n)].is_known ^= true,
            Event::Renumber(a, b) => {
                let (a, b) = (gpu(a), gpu(b));
                let first = self.gpus[a].minor;
                self.gpus[a].minor = self.gpus[b].minor;
                self.gpus[b].minor = first;
            }
            Event::Replace(n) => self.gpus[gpu(n)].uuid.push('b'),
            Event::ReloadUvm => self.uvm -= 1,
        }
        self.write();
    }

    fn pci(gpu: &Machine) -> String {
        format!("0000:{:02x}:00.0", gpu.slot + 1)
    }

    /// The tree as the kernel and its driver show the machine.
    fn write(&self) {
        let path = |name: &str| self.dir.path().join(name);
        let put = |name: &str, text: &str| {
            fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            fs::write(path(name), text).unwrap();
        };
        put("proc/driver/nvidia/version", "NVRM version: x 580.65.06\n");
        put(
            "proc/devices",
            &format!("Character devices:\n195 nvidia\n{} nvidia-uvm\n", self.uvm),
        );
        fs::create_dir_all(path("proc/driver/nvidia/gpus")).unwrap();
        fs::create_dir_all(path("dev")).unwrap();
        for gpu in &self.gpus {
            let entry = format!("proc/driver/nvidia/gpus/{}", Self::pci(gpu));
            let node = path(&format!("dev/nvidia{}", gpu.minor));
            let _ = fs::remove_dir_all(path(&entry));
            let _ = fs::remove_file(&node);
            if gpu.is_bound {
                let uuid = if gpu.is_known {
                    &gpu.uuid
                } else {
                    "GPU-????????"
                };
                let excluded = if gpu.is_excluded { "Yes" } else { "No" };
                let text = format!(
                    "Model: \t A\nGPU UUID: \t {uuid}\nDevice Minor: \t {}\nGPU Excluded:\t {excluded}\n",
                    gpu.minor
                );
                put(&format!("{entry}/information"), &text);
            }
            if gpu.has_node {
                let number = makedev(195, gpu.minor.into());
                mknod(&node, SFlag::S_IFCHR, Mode::empty(), number).unwrap();
            }
        }
    }

    /// What NVML says: it counts the GPUs that it can open.
    fn nvml(&self) -> NvmlReading {
        let usable = self.gpus.iter().filter(|g| g.is_bound && !g.is_excluded);
        let (open, closed): (Vec<_>, Vec<_>) = usable.partition(|g| g.has_node && !g.is_lost);
        let gpus = (0..).zip(open).map(|(index, gpu)| NvmlGpu {
            index,
            minor: gpu.minor,
            pci: Self::pci(gpu).parse().unwrap(),
            uuid: gpu.uuid.clone(),
            ..NvmlGpu::default()
        });
        NvmlReading {
            gpus: gpus.collect(),
            faults: closed.iter().map(|_| "GPU is lost".to_owned()).collect(),
            ..NvmlReading::default()
        }
    }

    fn discover(&self, nvml: NvmlUse) -> Inventory {
        let options = Options {
            nvml,
            ..Options::new(self.root())
        };
        discover(&options).unwrap()
    }

    /// Writes what describes the GPUs, and returns the inventory and the spec as they are read.
    fn describe(&self, nvml: NvmlUse) -> (Inventory, cdi::Spec) {
        let files = host_files::files(&self.root(), &self.discover(nvml)).unwrap();
        let text = |wanted: &str| {
            let found = files.iter().find(|(path, _)| *path == wanted);
            found.unwrap().1.clone()
        };
        let inventory = text(inventory_store::PATH);
        let path = self.dir.path().join(&inventory_store::PATH[1..]);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &inventory).unwrap();
        let spec = cdi::Spec::parse(text(SPEC_PATH).as_bytes()).unwrap();
        (serde_json::from_str(&inventory).unwrap(), spec)
    }

    fn root(&self) -> Root {
        Root::open(self.dir.path()).unwrap()
    }

    /// The GPUs by each of their names as they are now: index, UUID and PCI address.
    fn names(&self) -> Vec<(String, u32)> {
        let usable = self.gpus.iter().filter(|g| g.is_bound && !g.is_excluded);
        usable
            .enumerate()
            .flat_map(|(index, gpu)| {
                [index.to_string(), gpu.uuid.clone(), Self::pci(gpu)].map(|name| (name, gpu.minor))
            })
            .collect()
    }
}

/// The minors of the nodes for GPUs that a container gets by our plan, or the refusal.
fn by_plan(inventory: &Inventory, name: &str) -> Result<Vec<u32>, String> {
    let config = json!({"process": {"env": [format!("NVIDIA_VISIBLE_DEVICES={name}")]}});
    let policy = Policy::default();
    let request = Request::read(ContainerView::new(&config), &policy).unwrap();
    let edits = plan(inventory, &request, &policy).map_err(|e| e.to_string())?;
    let numbers = edits
        .devices
        .iter()
        .filter(|n| n.major == 195 && n.minor < 200);
    Ok(numbers.map(|n| n.minor).collect())
}

/// The same for a container that an engine gives a device of the stored spec.
fn by_spec(world: &World, spec: &cdi::Spec, name: &str) -> Result<Vec<u32>, String> {
    let device = spec
        .devices
        .iter()
        .find(|d| d.name == name)
        .ok_or("no such device")?;
    let nodes = device.container_edits.device_nodes.iter();
    let minors: Vec<u32> = nodes
        .filter_map(|n| n.path.to_str()?.strip_prefix("/dev/nvidia")?.parse().ok())
        .collect();
    let has_nodes = minors.iter().all(|minor| {
        let path = format!("dev/nvidia{minor}");
        world.dir.path().join(path).exists()
    });
    let hook = &spec.container_edits.hooks[0];
    let is_number = |n: &cdi::DeviceNode| n.major.is_some();
    // An engine refuses a node by path that is not there.
    if !has_nodes && !device.container_edits.device_nodes.iter().all(is_number) {
        return Err("no node".into());
    }
    let start = hook.args.iter().position(|a| a.starts_with("--")).unwrap();
    let edits = read_arguments(hook.args[start..].to_vec()).map_err(|e| e.to_string())?;
    ensure_by(&world.root(), &minors, &edits.gpus).map_err(|e| e.to_string())?;
    Ok(minors)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn a_name_gives_the_gpu_that_has_it_now_or_is_refused(
        count in 2..5_u8,
        before in events(0..4),
        after in events(0..4),
        has_nvml: bool,
    ) {
        if !skips::has(&[skips::Need::DeviceNodes]) {
            return Ok(());
        }
        let mut world = World::new(count);
        // What is described later takes the place of this.
        let first = world.nvml();
        world.describe(NvmlUse::by(move |_| Ok(Some(first.clone()))));
        for event in &before {
            world.change(*event);
        }
        let reading = world.nvml();
        let was_asked = Arc::new(AtomicBool::new(false));
        let ask = Arc::clone(&was_asked);
        let nvml = if has_nvml {
            NvmlUse::by(move |_| {
                ask.store(true, Ordering::Relaxed);
                Ok(Some(reading.clone()))
            })
        } else {
            NvmlUse::No
        };
        let (stored, spec) = world.describe(nvml);
        prop_assert_eq!(was_asked.load(Ordering::Relaxed), has_nvml);
        for event in &after {
            world.change(*event);
        }
        let is_fresh = stored.is_fresh(&world.root());
        prop_assert!(is_fresh || !after.is_empty(), "it is not of the host that it describes");
        let now = if is_fresh { stored.clone() } else { world.discover(NvmlUse::No) };
        for (name, minor) in world.names() {
            for (way, given) in [("plan", by_plan(&now, &name)), ("spec", by_spec(&world, &spec, &name))] {
                if let Ok(minors) = &given {
                    prop_assert_eq!(minors, &[minor], "{} by {}", name, way);
                }
                // Nothing is refused on a host where nothing is wrong. A spec has no names by PCI address.
                let has_name = way == "plan" || !name.contains(':');
                let is_well = before.is_empty() && after.is_empty() && has_name;
                prop_assert!(!is_well || given.is_ok(), "{} by {}: {:?}", name, way, given);
            }
        }
        let uvm = now.control_nodes.iter().find(|n| n.node.path == Path::new("/dev/nvidia-uvm"));
        prop_assert_eq!(uvm.map(|n| n.node.major), Some(world.uvm));
    }
}
