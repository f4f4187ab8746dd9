//! Containers with mounts that users commonly have still start, and the mounted files do not change.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::add_socket;
use super::bundle::canary;
use super::bundle::{Below, RuncBundle, WAYS, Way, can_run, make_nodes, text};
use super::volumes::without_mount_points;

/// A mount: name, type, source in the test's directory, destination, options; and whether the
/// container has the driver's socket.
type UserMount = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    bool,
);
const USER_MOUNTS: [UserMount; 14] = [
    ("data", "bind", "host/volume", "/data", "rprivate", true),
    (
        "configuration",
        "bind",
        "host/volume",
        "/etc/app",
        "rprivate",
        true,
    ),
    ("hosts", "bind", "host/file", "/etc/hosts", "rprivate", true),
    (
        "resolv.conf",
        "bind",
        "host/file",
        "/etc/resolv.conf",
        "ro",
        true,
    ),
    (
        "containerenv",
        "bind",
        "host/file",
        "/run/.containerenv",
        "rprivate",
        true,
    ),
    (
        "emptyDir at /run",
        "bind",
        "host/volume",
        "/run",
        "rprivate",
        false,
    ),
    (
        "emptyDir at /var/run",
        "bind",
        "host/volume",
        "/var/run",
        "rprivate",
        false,
    ),
    (
        "volume at /var",
        "bind",
        "host/volume",
        "/var",
        "rprivate",
        false,
    ),
    (
        "volume at /tmp",
        "bind",
        "host/volume",
        "/tmp",
        "rshared",
        true,
    ),
    ("host's /run", "bind", "host/run", "/run", "rslave", true),
    ("tmpfs at /run", "tmpfs", "tmpfs", "/run", "nosuid", true),
    ("tmpfs at /etc", "tmpfs", "tmpfs", "/etc", "nosuid", true),
    (
        "tmpfs at the libraries",
        "tmpfs",
        "tmpfs",
        "/usr/lib",
        "nosuid",
        true,
    ),
    (
        "driver's directory",
        "bind",
        "host/volume",
        "/usr/local/nvidia",
        "rprivate",
        true,
    ),
];

#[test]
fn containers_with_common_user_mounts_start() {
    if !can_run() {
        return;
    }
    let mut todo = Vec::new();
    for usual in USER_MOUNTS {
        for way in WAYS {
            todo.push((usual, way, false));
        }
    }
    // For a read-only root, the mount points have to exist in the image or be made by the runtime.
    todo.push((USER_MOUNTS[0], Way::Shim, true));
    let failures = super::in_parallel(&todo, |(usual, way, is_read_only)| {
        let (name, kind, source, at, option, has_socket) = *usual;
        let id = format!(
            "usual-{}-{way:?}-{is_read_only}",
            name.replace([' ', '/', '\''], "-")
        );
        let place = RuncBundle::new(&id);
        canary::make(&place.path("canary"));
        make_nodes(&place);
        add_socket(&place);
        for dir in ["run", "var"] {
            fs::create_dir_all(place.image(dir)).unwrap();
        }
        symlink("/run", place.image("var/run")).unwrap();
        fs::write(place.image("etc/ld.so.cache"), "").unwrap();
        fs::create_dir(place.path("host/volume")).unwrap();
        fs::create_dir_all(place.path("host/run/nvidia-persistenced")).unwrap();
        fs::write(place.path("host/run/nvidia-persistenced/socket"), "").unwrap();
        fs::write(place.path("host/file"), "").unwrap();
        let script = "busybox ls /run/nvidia-persistenced /var/run/nvidia-persistenced; \
            busybox grep -q libcuda.so.1 /etc/ld.so.cache && echo CACHED; \
            busybox grep -q . /usr/lib/libcuda.so.1.2.3 && echo MOUNTED; echo STARTED";
        place.make_config("1", script, |config| {
            config["root"]["readonly"] = json!(*is_read_only);
            let (source, options) = match kind {
                "bind" => (place.path(source), json!(["rbind", option])),
                _ => (source.into(), json!([option])),
            };
            config["mounts"].as_array_mut().unwrap().push(json!({
                "type": kind, "source": source, "destination": at, "options": options,
            }));
        });
        let before = canary::look(&place);
        let out = text(&place.start_by(*way, Below::Runc));
        let mut after = canary::look(&place);
        if *way == Way::Cdi {
            after = without_mount_points(after, &before);
        }
        let mut failures = canary::differences(&before, &after);
        let printed = |word: &str| out.lines().any(|l| l == word);
        for word in ["STARTED", "CACHED", "MOUNTED"] {
            if !printed(word) {
                failures.push(format!("not {word}"));
            }
        }
        // The runtime makes mount points for the mounts of a CDI spec.
        if printed("socket") != (has_socket || *way == Way::Cdi) {
            failures.push(format!("socket: {}", printed("socket")));
        }
        let about = |f: String| format!("{name} by {way:?}: {f}\n{out}");
        failures.into_iter().map(about).collect::<Vec<_>>()
    });
    let failures: Vec<String> = failures.into_iter().flatten().collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
