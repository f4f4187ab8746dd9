//! Runs the built-in image as a pod in a containerd. The image is imported into CRI's namespace by ctr, because CRI
//! itself cannot import an image.

use std::path::Path;
use std::time::Duration;

use gpu_host::init;
use toml::{Table, Value};

use super::daemon::Daemon;
use super::edits::Place;
use super::files::Files;
use super::schema::{self, Schema};
use super::view::View;
use crate::engines::cri::{ImageSource, PodWays, Pods};
use crate::engines::engine::{Probe, argv};
use crate::engines::probe_image;
use crate::host::Host;
use crate::model::setup_options::SetupOptions;

/// CRI's namespace.
const NAMESPACE: &str = "k8s.io";
/// The label of a sandbox image that is ours, so that it is found again after a killed run.
const LABEL: (&str, &str) = ("gpusetup", "probe");
/// The first version with CDI devices in CRI.
const CDI: (u32, u32) = (1, 7);

/// How pods run; `None` if CRI is disabled or its configuration contains nothing of ours. `is_node`: a kubelet uses
/// this containerd.
pub fn probe(
    host: &Host,
    daemon: &Daemon,
    place: &Place,
    files: &Files,
    is_node: bool,
    archive: &Path,
) -> Option<Probe> {
    if schema::is_off(files) {
        return None;
    }
    let ways = ways(place, files);
    if ways == PodWays::default() {
        return None;
    }
    let socket = daemon.socket.display().to_string();
    let sandbox_image = sandbox_image(host, daemon, &place.root);
    // A runtime with the systemd cgroup driver accepts no other parent; one without it accepts this parent too.
    let is_systemd = init::detect(host.root()) == init::Init::Systemd;
    let pods = Pods {
        socket: &socket,
        image: ImageSource::Loaded,
        sandbox_image: sandbox_image.as_deref(),
        cgroup_parent: if is_systemd { "system.slice" } else { "" },
        ways,
    };
    let mut probe = pods.probe(host);
    let ctr = [daemon.ctr(), vec!["-n", NAMESPACE]].concat();
    let archive = archive.display().to_string();
    let remove = |name: &str| argv(&[&ctr, &["images", "rm", "--sync", name]]);
    probe.load = vec![argv(&[&ctr, &["images", "import", &archive]])];
    // CRI gives each image a further name, its ID, which keeps the image when ctr has removed the other names. So CRI
    // removes the image first; ctr removes a name that CRI has not learnt of yet.
    probe.unload = vec![
        pods.remove_image(probe_image::NAME),
        remove(probe_image::NAME),
    ];
    probe.is_unused = !is_node;
    // If no kubelet runs pods, the sandbox image has not been pulled and is not needed by others: our image, whose
    // program only waits, takes its place meanwhile.
    if let Some(name) = &sandbox_image
        && !is_node
        && !is_anothers(host, &ctr, name)
    {
        let label = format!("{}={}", LABEL.0, LABEL.1);
        let tag = ["images", "tag", "--force", probe_image::NAME, name];
        probe.load.push(argv(&[&ctr, &tag]));
        probe
            .load
            .push(argv(&[&ctr, &["images", "label", name, &label]]));
        probe.unload.push(remove(name));
    }
    Some(probe)
}

fn ways(place: &Place, files: &Files) -> PodWays {
    let Ok(schema) = Schema::of(files, place.version) else {
        return PodWays::default();
    };
    let view = View::new(files, &schema, place.merges);
    let wanted = SetupOptions::default();
    let keys = [
        "containerd",
        "runtimes",
        &wanted.runtime_name,
        "options",
        "BinaryName",
    ];
    let is_on = view
        .get(&["enable_cdi"])
        .map_or(place.version >= (2, 0), |f| f.item.as_bool() == Some(true));
    let cdi = place.version >= CDI && is_on;
    PodWays {
        // A runtime of another tool that was left in place is not tested.
        handler: view.text(&keys).map(Path::new) == Some(&wanted.runtime_path),
        field: cdi,
        annotation: cdi,
    }
}

/// The image of its sandboxes, according to the daemon's dump of its own configuration.
fn sandbox_image(host: &Host, daemon: &Daemon, root: &Path) -> Option<String> {
    let root_text = root.display().to_string();
    let mut command = vec![daemon.program.as_str()];
    if host.root().exists(root) {
        command.extend(["--config", &root_text]);
    }
    command.extend(["config", "dump"]);
    let dump = host.run(&command, Duration::from_secs(30)).ok()?;
    in_dump(&dump.stdout)
}

fn in_dump(text: &str) -> Option<String> {
    let dump: Table = text.parse().ok()?;
    let plugins = dump.get("plugins")?.as_table()?;
    let name = plugins.values().find_map(|plugin| {
        let pinned = plugin.get("pinned_images").and_then(|p| p.get("sandbox"));
        pinned.or(plugin.get("sandbox_image"))
    });
    name.and_then(Value::as_str).map(str::to_owned)
}

/// Whether the daemon has an image of that name that is not ours. If the daemon does not answer, the image counts as
/// present.
fn is_anothers(host: &Host, ctr: &[&str], name: &str) -> bool {
    let has = |filter: &str| {
        let command = [ctr, &["images", "ls", "-q", filter]].concat();
        match host.run(&command, Duration::from_secs(10)) {
            Ok(out) if out.has_succeeded() => !out.stdout.trim().is_empty(),
            _ => true,
        }
    };
    let named = format!("name=={name}");
    let ours = format!("{named},labels.{}=={}", LABEL.0, LABEL.1);
    has(&named) && !has(&ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sandbox_image_is_found_in_every_schema() {
        let one =
            "[plugins]\n[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = 'r/pause:3.6'\n";
        assert_eq!(in_dump(one).unwrap(), "r/pause:3.6");
        let three = "version = 3\n[plugins.\"io.containerd.cri.v1.images\".pinned_images]\nsandbox = \"r/pause:3.10\"\n";
        assert_eq!(in_dump(three).unwrap(), "r/pause:3.10");
        assert_eq!(in_dump("version = 3\n[plugins.other]\na = 1\n"), None);
    }

    #[test]
    fn only_what_is_set_up_is_tried() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::open(dir.path(), Path::new("/")).unwrap();
        let ways = |version, text: &str| {
            std::fs::write(dir.path().join("c.toml"), text).unwrap();
            let place = Place::plain("/c.toml".into(), version);
            super::ways(&place, &place.files(&host).unwrap())
        };
        let entry = |program: &str| {
            format!(
                "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.nvidia.options]\nBinaryName = '{program}'\n"
            )
        };
        let path = SetupOptions::default().runtime_path;
        let ours = entry(path.to_str().unwrap());
        let handler = PodWays {
            handler: true,
            ..PodWays::default()
        };
        assert_eq!(ways((1, 6), &ours), handler);
        assert_eq!(ways((1, 7), &ours), handler);
        assert_eq!(
            ways((1, 7), &entry("/usr/bin/nvidia-container-runtime")),
            PodWays::default()
        );
        let on = "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nenable_cdi = true\n";
        assert!(ways((1, 7), on).field && !ways((1, 7), on).handler);
        assert!(!ways((1, 6), on).field);
        let off = "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\nenable_cdi = false\n";
        assert!(!ways((2, 0), off).field && ways((2, 0), "version = 3\n").annotation);
    }
}
