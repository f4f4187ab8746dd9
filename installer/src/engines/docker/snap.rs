//! Detects Docker as a snap, which we cannot set up. It is confined, and contains NVIDIA's toolkit,
//! which makes its own CDI spec and runtime (canonical/docker-snap, README, "NVIDIA support"). It
//! cannot use the host's programs as runtimes.

use std::path::Path;

use crate::engines::unmanaged::Unmanaged;
use crate::host::Host;

const SIGNS: [&str; 4] = [
    "/var/snap/docker",
    "/snap/bin/docker",
    "/var/lib/snapd/snap/bin/docker",
    "/etc/systemd/system/snap.docker.dockerd.service",
];
const META: &str = "/snap/docker/current/meta/snap.yaml";
pub(super) const CONFIG: &str = "/var/snap/docker/current/config/daemon.json";

/// The snap, if it is installed.
pub fn find(host: &Host) -> Option<Unmanaged> {
    let root = host.root();
    if !SIGNS.iter().any(|s| root.symlink_metadata(s).is_ok()) {
        return None;
    }
    let meta = root.read_to_string(META).unwrap_or_default();
    let version = meta.lines().find_map(|l| l.strip_prefix("version:"));
    let version = version.map(|v| v.trim().trim_matches(['\'', '"']).to_owned());
    let engine = Unmanaged::new(
        "docker-snap",
        "a snap is confined and takes no runtime of the host; it brings its own, with a CDI spec of its own",
        "`docker run --runtime nvidia --gpus all` works there; where it does not, \
         `snap connections docker` must show opengl (or gpu-2404), \
         `snap get docker nvidia-support.disabled` must not say true, and `snap restart docker` looks for GPUs again",
    );
    Some(engine.with(version, Some(Path::new(CONFIG))))
}
