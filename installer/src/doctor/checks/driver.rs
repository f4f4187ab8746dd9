//! Checks of the driver: whether it is installed, loaded and complete.

use gpu_host::Mismatch;

use crate::doctor::checks::check::{Checks, evidence};
use crate::doctor::facts::{HostFacts, Pci};
use crate::doctor::remedy::{Remedies, Remedy};
use crate::error::invocation::Invocation;

pub const CHECKS: Checks = &[
    ("driver-missing", missing),
    ("no-gpu", no_gpu),
    ("driver-not-loaded", not_loaded),
    ("driver-not-built", not_built),
    ("secure-boot", secure_boot),
    ("nouveau-bound", nouveau),
    ("vfio-bound", vfio),
    ("driver-mismatch", mismatch),
    ("driver-no-libraries", no_libraries),
    ("driver-root-elsewhere", elsewhere),
    ("driver-twice", twice),
    ("gpu-lost", lost),
    ("persistence-off", persistence),
];

pub const REMEDIES: Remedies = &[
    ("driver-not-loaded", load),
    ("driver-not-built", build),
    ("secure-boot", enrol),
    ("driver-root-elsewhere", say_root),
    ("persistence-off", turn_on),
];

/// UEFI specification 2.10, "Globally Defined Variables".
const SECURE_BOOT: &str =
    "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Directories of a driver's libraries.
const DIRS: [&str; 5] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/lib/x86_64-linux-gnu/nvidia/current",
];
/// Where DKMS of Debian and of Ubuntu, and akmods of Fedora keep the key that signs modules (dkms(8); shim-signed;
/// akmods, README.secureboot).
const KEYS: [&str; 3] = [
    "/var/lib/dkms/mok.pub",
    "/var/lib/shim-signed/mok/MOK.der",
    "/etc/pki/akmods/certs/public_key.der",
];
/// Libraries whose file name ends with the driver's version.
const LIBRARIES: [&str; 2] = ["libcuda.so.", "libnvidia-ml.so."];

fn missing(look: &HostFacts) -> Option<String> {
    if !look.is_plain() || look.loaded_version().is_some() || look.installed_version().is_some() {
        return None;
    }
    // A GPU that is reserved for virtual machines needs no driver here.
    let free = |g: &&Pci| g.driver.as_deref() != Some("vfio-pci");
    let gpu = look.pci_gpus().find(free)?;
    Some(format!(
        "{} is a GPU of NVIDIA, no driver is below {}",
        gpu.address,
        look.host.driver_root.display()
    ))
}

/// Neither a GPU nor a driver, and yet an engine: whoever asks for GPUs here gets an error of the engine that says
/// nothing of that.
fn no_gpu(look: &HostFacts) -> Option<String> {
    // A directory tree has no devices of its own, and is set up before it has a driver.
    gpu_host::kernel::release(look.host.root())?;
    let is_gpu = |g: &Pci| !g.is_switch;
    if !look.is_plain()
        || look.ok(look.inventory())?.driver.is_some()
        || look.installed_version().is_some()
        || look.pci().iter().any(is_gpu)
    {
        return None;
    }
    let engine = look.engines().first()?.facts().name.clone();
    Some(format!(
        "PCI has no GPU of NVIDIA, and no driver is below {}; {engine} is here",
        look.host.driver_root.display()
    ))
}

/// The version of a driver that is installed but not loaded.
fn idle(look: &HostFacts) -> Option<String> {
    // A directory tree has no running kernel, so nothing is loaded in it.
    gpu_host::kernel::release(look.host.root())?;
    if !look.is_plain() || look.loaded_version().is_some() {
        return None;
    }
    look.installed_version()
}

fn not_loaded(look: &HostFacts) -> Option<String> {
    let version = idle(look)?;
    // These checks name the reason, so they report it instead of this one.
    if not_built(look).is_some() || secure_boot(look).is_some() || nouveau(look).is_some() {
        return None;
    }
    Some(format!(
        "driver {version} is installed, no module nvidia is loaded"
    ))
}

fn not_built(look: &HostFacts) -> Option<String> {
    let version = idle(look)?;
    let release = gpu_host::kernel::release(look.host.root())?;
    (look.has_module() == Some(false))
        .then(|| format!("driver {version} is installed, kernel {release} has no nvidia.ko"))
}

fn secure_boot(look: &HostFacts) -> Option<String> {
    let version = idle(look)?;
    // The variable has four bytes of attributes, then its value.
    let variable = look.known(look.host.root().read(SECURE_BOOT).into())?;
    if variable.get(4) != Some(&1) || look.has_module() != Some(true) {
        return None;
    }
    Some(format!(
        "Secure Boot is on, the module of driver {version} is there and is not loaded"
    ))
}

fn nouveau(look: &HostFacts) -> Option<String> {
    // nouveau matters only if NVIDIA's driver is installed; otherwise `driver-missing` reports it.
    look.installed_version()?;
    let bound = look
        .pci_gpus()
        .filter(|g| g.driver.as_deref() == Some("nouveau"));
    evidence(
        bound
            .map(|g| format!("{} is bound to nouveau", g.address))
            .collect(),
    )
}

fn vfio(look: &HostFacts) -> Option<String> {
    let is_vfio = |driver: &Option<String>| driver.as_deref() == Some("vfio-pci");
    let all = look.pci_gpus().count();
    let bound = look.pci_gpus().filter(|g| is_vfio(&g.driver)).count();
    (all > 0 && bound == all).then(|| match all {
        1 => "the one GPU is bound to vfio-pci".to_owned(),
        _ => format!("all {all} GPUs are bound to vfio-pci"),
    })
}

fn mismatch(look: &HostFacts) -> Option<String> {
    match look.mismatch()? {
        Mismatch::Versions {
            loaded, installed, ..
        } => Some(format!(
            "module {loaded} is loaded, the libraries are {installed}"
        )),
        Mismatch::NoLibraries { .. } => None,
    }
}

fn no_libraries(look: &HostFacts) -> Option<String> {
    match look.mismatch()? {
        Mismatch::NoLibraries {
            loaded,
            driver_root,
            elsewhere: None,
        } => Some(format!(
            "module {loaded} is loaded, below {} is no library of it",
            driver_root.display()
        )),
        _ => None,
    }
}

fn elsewhere(look: &HostFacts) -> Option<String> {
    let Mismatch::NoLibraries {
        loaded,
        driver_root,
        elsewhere: Some(root),
    } = look.mismatch()?
    else {
        return None;
    };
    Some(format!(
        "libraries of {loaded} are below {}, not below {}",
        root.display(),
        driver_root.display()
    ))
}

fn twice(look: &HostFacts) -> Option<String> {
    let loaded = look.loaded_version().filter(|_| look.is_plain())?;
    // If the libraries of the loaded version are missing, `mismatch` reports that better.
    if look.mismatch().is_some() {
        return None;
    }
    let mut others = Vec::new();
    for dir in DIRS {
        // Below another driver root are all the libraries that containers get.
        let dir = look.host.driver_root.join(dir.trim_start_matches('/'));
        for path in look.entries(dir) {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let version = LIBRARIES.iter().find_map(|l| name.strip_prefix(l));
            // A version has a dot; libcuda.so.1 is only a link.
            let is_other = version.is_some_and(|v| v.contains('.') && v != loaded);
            if is_other && !others.contains(&name) {
                others.push(name);
            }
        }
    }
    let others = evidence(others)?;
    Some(format!("{others} beside those of the loaded {loaded}"))
}

fn lost(look: &HostFacts) -> Option<String> {
    look.loaded_version()?;
    let listed: Vec<String> = look
        .entries("/proc/driver/nvidia/gpus")
        .iter()
        .filter_map(|p| Some(p.file_name()?.to_string_lossy().to_lowercase()))
        .collect();
    let is_lost = |g: &&Pci| {
        g.driver.as_deref() == Some("nvidia") && !listed.contains(&g.address.to_lowercase())
    };
    let gpus = look.pci_gpus().filter(is_lost);
    evidence(
        gpus.map(|g| format!("{} is on PCI, the driver does not list it", g.address))
            .collect(),
    )
}

fn persistence(look: &HostFacts) -> Option<String> {
    const PROGRAM: &str = "nvidia-persistenced";
    look.loaded_version().filter(|_| look.is_plain())?;
    let has_display = !look.entries("/tmp/.X11-unix").is_empty();
    if !look.host.has_program(PROGRAM) || has_display || !look.sees_processes() {
        return None;
    }
    if look.runs(PROGRAM) {
        return None;
    }
    let program = look.host.program(PROGRAM)?;
    Some(format!(
        "{} is here, no such process runs",
        program.display()
    ))
}

fn load(look: &HostFacts, usual: Remedy) -> Remedy {
    match look.module_name("nvidia") {
        Some(module) => usual.by(format!("modprobe {module}")),
        None => usual,
    }
}

fn build(look: &HostFacts, usual: Remedy) -> Remedy {
    if look.host.has_program("dkms") {
        usual
    } else if look.host.has_program("akmods") {
        usual.by("akmods --force && modprobe nvidia")
    } else {
        usual.by_any(None)
    }
}

fn enrol(look: &HostFacts, usual: Remedy) -> Remedy {
    let key = KEYS.iter().find(|key| look.exists(key));
    usual.by_any(key.map(|key| format!("mokutil --import {key}")))
}

fn say_root(look: &HostFacts, usual: Remedy) -> Remedy {
    let root = match look.mismatch() {
        Some(Mismatch::NoLibraries { elsewhere, .. }) => elsewhere,
        _ => None,
    };
    let key = "nvidia-container-cli.root";
    let set = root.map(|root| Invocation::ConfigSet(key, &root.to_string_lossy()).to_string());
    usual.by_any(set)
}

fn turn_on(look: &HostFacts, usual: Remedy) -> Remedy {
    usual.by_command_if(look.has_systemd())
}
