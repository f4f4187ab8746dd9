//! Detects Docker Desktop, which we cannot set up: its daemon runs in a virtual machine, which
//! files of this host do not reach.

use std::path::Path;

use crate::engines::unmanaged::Unmanaged;
use crate::host::Host;

const NAME: &str = "docker-desktop";
/// Where Docker Desktop on Windows puts its files in a WSL distribution that it is integrated with.
const WSL: &str = "/mnt/wsl";

/// Docker Desktop, if it is installed.
pub fn find(host: &Host) -> Option<Unmanaged> {
    if is_in_wsl(host) {
        return Some(Unmanaged::new(
            NAME,
            "its daemon is Docker Desktop's on Windows, in a distribution of its own",
            "`docker run --gpus all` works there with NVIDIA's driver for Windows alone; for a Docker of this \
             distribution, turn its WSL integration off in Docker Desktop's settings, install docker-ce here, \
             then run this again",
        ));
    }
    is_on_linux(host).then(|| {
        Unmanaged::new(
            NAME,
            "its daemon is in a virtual machine, which has no GPU of this host",
            "install Docker Engine beside it, `docker context use default`, then run this again",
        )
    })
}

fn is_in_wsl(host: &Host) -> bool {
    let names = host.root().read_dir(WSL).unwrap_or_default();
    let is_desktop = |n: &std::ffi::OsString| n.to_string_lossy().starts_with("docker-desktop");
    let leads_there = |path: &str| {
        let target = host.root().read_link(path);
        target.is_ok_and(|t| t.starts_with(WSL) && t.to_string_lossy().contains("docker-desktop"))
    };
    // Every distribution has the directories; only those with the integration have the links.
    names.iter().any(is_desktop)
        && (leads_there("/usr/bin/docker") || leads_there("/usr/local/bin/docker"))
}

fn is_on_linux(host: &Host) -> bool {
    let root = host.root();
    if root.exists("/opt/docker-desktop") {
        return true;
    }
    let of_user = host.user().map(|u| u.home.join(".docker/desktop"));
    if of_user.is_some_and(|dir| root.exists(dir)) {
        return true;
    }
    let programs = root.read_dir(Path::new("/usr/bin")).unwrap_or_default();
    let is_its = |n: &std::ffi::OsString| n.to_string_lossy().starts_with("com.docker.");
    programs.iter().any(is_its)
}
