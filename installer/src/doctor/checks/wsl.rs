//! Checks of the Windows Subsystem for Linux, where the driver is that of Windows.

use gpu_host::init;

use crate::doctor::checks::check::Checks;
use crate::doctor::facts::HostFacts;

pub const CHECKS: Checks = &[
    ("wsl-linux-driver", linux_driver),
    ("wsl-no-gpu", no_gpu),
    ("wsl-no-libraries", no_libraries),
    ("wsl-no-systemd", no_systemd),
];

/// Where the libraries from Windows are (docs.nvidia.com, "CUDA on WSL User Guide").
const LIB: &str = "/usr/lib/wsl/lib";

fn linux_driver(look: &HostFacts) -> Option<String> {
    if !look.platform().wsl {
        return None;
    }
    let version = look.installed_version()?;
    Some(format!("libcuda.so.{version} is installed in this WSL"))
}

fn no_gpu(look: &HostFacts) -> Option<String> {
    (look.platform().wsl && !look.platform().dxg).then(|| "/dev/dxg is not there".into())
}

fn no_libraries(look: &HostFacts) -> Option<String> {
    let platform = look.platform();
    if !platform.wsl || !platform.dxg {
        return None;
    }
    let driver = look.ok(look.inventory())?.driver.as_ref();
    let is_cuda = |f: &gpu_host::DriverFile| f.path.to_string_lossy().contains("libcuda.so");
    let has_cuda = driver.is_some_and(|d| d.files.iter().any(is_cuda));
    (!has_cuda).then(|| format!("neither {LIB} nor Windows' driver store has a libcuda.so"))
}

fn no_systemd(look: &HostFacts) -> Option<String> {
    let root = look.host.root();
    let could = init::has_systemd(root) && init::detect(root) != init::Init::Systemd;
    let needs = look
        .engine("docker")
        .or_else(|| look.engine("containerd"))?;
    (look.platform().wsl && could).then(|| {
        format!(
            "systemd is installed and does not run, so nothing starts {}",
            needs.facts().name
        )
    })
}
