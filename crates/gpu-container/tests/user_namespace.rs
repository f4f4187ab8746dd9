//! Containers whose root is an unprivileged user on the host, as with Podman's `--uidmap` and
//! `--userns nomap|auto` and Docker's userns-remap. Files and directories that only the host's root
//! can access must not keep them from starting. Needs root, runc and a static busybox.
#![allow(clippy::unwrap_used)]

mod bundle;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use bundle::{Below, RuncBundle, Way, can_run, text};
use gpu_host::{Capabilities, DriverFile, FileKind, Need};
use serde_json::{Value, json};

const FIRST_ID: u32 = 100_000;
const LOOK: &str = "busybox cat /usr/lib/libcuda.so; echo; busybox ls -l /usr/lib; \
    busybox grep -c libcuda.so.1 /etc/ld.so.cache; busybox cat /proc/self/uid_map";

/// A place with the image next to the bundle; its files belong to the container's root.
fn place(name: &str) -> RuncBundle {
    let place = RuncBundle::new(name);
    // runc binds nodes from the host's paths, and this machine may have no GPU.
    let mut inventory = place.inventory();
    inventory.control_nodes.clear();
    let node = &mut inventory.gpus[1].node;
    (node.path, node.host_path) = ("/dev/full".into(), "/dev/full".into());
    (node.major, node.minor) = (1, 7);
    place.store(&inventory);
    set_mode(&place.path(""), 0o755);
    fs::rename(place.path("bundle/rootfs"), place.path("image")).unwrap();
    for owned in ["", "bin", "etc", "tmp", "bin/busybox"] {
        let path = place.path("image").join(owned);
        chown(path, Some(FIRST_ID), Some(FIRST_ID)).unwrap();
    }
    place
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn map(config: &mut Value, image: &Path) {
    config["root"]["path"] = json!(image);
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "user"}));
    let ids = json!([{"containerID": 0, "hostID": FIRST_ID, "size": 65_536}]);
    config["linux"]["uidMappings"] = ids.clone();
    config["linux"]["gidMappings"] = ids;
}

fn assert_has_gpu(output: &str) {
    for wanted in [
        "a library",
        "libcuda.so.1 -> libcuda.so.1.2.3",
        &FIRST_ID.to_string(),
    ] {
        assert!(output.contains(wanted), "{wanted:?} in\n{output}");
    }
}

#[test]
fn a_bundle_that_the_containers_root_cannot_enter_is_accepted() {
    if !can_run() {
        return;
    }
    for (way, below) in [
        (Way::Shim, Below::Runc),
        (Way::Cdi, Below::Runc),
        (Way::Prestart, Below::Runc),
        (Way::Shim, Below::Crun),
        (Way::Cdi, Below::Crun),
    ] {
        let place = place(&format!("closed-{way:?}-{below:?}").to_lowercase());
        place.make_config("1", LOOK, |config| map(config, &place.path("image")));
        set_mode(&place.path("bundle"), 0o700);
        if below == Below::Crun {
            // crun before 1.27 enters the bundle as the container's root, whichever hook it starts.
            place.edit_config(|config| {
                config["hooks"] =
                    json!({"createContainer": [{"path": "/bin/true", "args": ["true"]}]});
            });
            let plain = text(&place.start_plain(below));
            if !plain.contains(&FIRST_ID.to_string()) {
                println!(
                    "skip {way:?} by crun, which runs no hook of such a container here: {plain}"
                );
                continue;
            }
            place.edit_config(|config| config["hooks"] = json!({}));
        }
        let output = text(&place.start_by(way, below));
        assert_has_gpu(&output);
        let cache = fs::metadata(place.path("image/etc/ld.so.cache")).unwrap();
        assert_eq!(cache.uid(), FIRST_ID, "{way:?} {below:?}");
    }
}

/// Mounts the directory of the first argument on itself with other owners: who is 0 in the file system is the second.
/// Then runs the rest.
const IDMAPPED: &str = r#"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *args):
    done = getattr(libc, name)(*args)
    if done < 0:
        sys.exit(f"no idmapped mount: {name} {args[0]}: {os.strerror(ctypes.get_errno())}")
    return done
root, first, rest = sys.argv[1].encode(), sys.argv[2], sys.argv[3:]
is_made, made = os.pipe()
is_done, done = os.pipe()
child = os.fork()
if child == 0:
    os.close(done)
    call("unshare", 0x10000000)  # CLONE_NEWUSER
    os.write(made, b"1")
    os.read(is_done, 1)
    os._exit(0)
os.close(made)
os.read(is_made, 1)
for kind in ("uid", "gid"):
    open(f"/proc/{child}/{kind}_map", "w").write(f"0 {first} 65536")
users = os.open(f"/proc/{child}/ns/user", os.O_RDONLY)
tree = call("syscall", 428, -100, root, 0o2000001)  # open_tree: OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC
attributes = struct.pack("QQQQ", 0x100000, 0, 0, users)  # MOUNT_ATTR_IDMAP
call("syscall", 442, tree, b"", 0x1000, attributes, 32)  # mount_setattr
call("syscall", 429, tree, b"", -100, root, 4)  # move_mount
os.close(done)
os.execvp(rest[0], rest)
"#;

/// An engine that maps owners by the mount instead of by chown (Podman's `--rootfs DIR:idmap`, containerd 2): our files
/// belong to the image's root, as the image's do.
#[test]
fn files_in_an_idmapped_root_belong_to_the_images_root() {
    if !can_run() || !skips::has(&[skips::Need::Python3, skips::Need::MountApi]) {
        return;
    }
    for way in [Way::Shim, Way::Cdi, Way::Prestart] {
        let place = place(&format!("idmapped-{way:?}").to_lowercase());
        for owned in ["", "bin", "etc", "tmp", "bin/busybox"] {
            chown(place.path("image").join(owned), Some(0), Some(0)).unwrap();
        }
        place.make_config("1", LOOK, |config| map(config, &place.path("image")));
        let (image, first) = (place.path("image"), FIRST_ID.to_string());
        let private = ["unshare", "--mount", "--propagation", "private"];
        let mapped = [
            "python3",
            "-c",
            IDMAPPED,
            image.to_str().unwrap(),
            first.as_str(),
        ];
        let host: Vec<&str> = private.into_iter().chain(mapped).collect();
        let output = text(&place.start_on(&host, way, Below::Runc));
        if output.contains("no idmapped mount") {
            skips::skip(skips::Need::MountApi, &output);
            return;
        }
        assert_has_gpu(&output);
        let cache = fs::metadata(place.path("image/etc/ld.so.cache")).unwrap();
        assert_eq!((cache.uid(), cache.gid()), (0, 0), "{way:?}");
    }
}

/// As with Linux 4.15, or in a sandbox that refuses all that is newer.
#[test]
fn the_hook_works_there_without_what_linux_has_since_5_2() {
    if !can_run() || !skips::has(&[skips::Need::Strace]) {
        return;
    }
    let since =
        "open_tree,move_mount,fsopen,fsconfig,fsmount,mount_setattr,openat2,statx,close_range";
    for way in [Way::Shim, Way::Cdi] {
        for error in ["ENOSYS", "EPERM"] {
            let place = place(&format!("since-{way:?}-{error}").to_lowercase());
            place.lacks(since, error);
            place.make_config("1", LOOK, |config| map(config, &place.path("image")));
            // For what the hook is traced to.
            set_mode(&place.path(""), 0o777);
            let output = text(&place.start_by(way, Below::Runc));
            assert_has_gpu(&output);
            let strace = fs::read_to_string(place.path("strace.log")).unwrap();
            assert!(strace.contains(error), "{strace}");
        }
    }
}

/// Sockets of daemons: one that only root can reach (as fabric manager's), one that was removed after
/// the inventory was stored, and one for all users. Those that cannot be reached are left out; the container starts.
#[test]
fn optional_files_that_cannot_be_reached_are_left_out() {
    if !can_run() {
        return;
    }
    for mapped in [true, false] {
        for (way, below) in [
            (Way::Shim, Below::Runc),
            (Way::Cdi, Below::Runc),
            (Way::Prestart, Below::Runc),
            (Way::Shim, Below::Crun),
            (Way::Cdi, Below::Crun),
        ] {
            if !Below::available().contains(&below) || (way == Way::Prestart && mapped) {
                continue;
            }
            let name = format!("optional-{way:?}-{below:?}-{mapped}").to_lowercase();
            let place = place(&name);
            let mut inventory = place.inventory();
            let files = &mut inventory.driver.as_mut().unwrap().files;
            for (name, need) in [
                ("closed", Need::OptionalAndClosed),
                ("gone", Need::Optional),
                ("open", Need::Optional),
            ] {
                // An engine refuses a spec whose mount source does not exist.
                if name == "gone" && way == Way::Cdi {
                    continue;
                }
                let dir = place.path(&format!("host/{name}"));
                fs::create_dir(&dir).unwrap();
                fs::write(dir.join("socket"), "").unwrap();
                files.push(DriverFile {
                    kind: FileKind::Socket,
                    path: format!("/run/{name}/socket").into(),
                    host_path: dir.join("socket"),
                    capabilities: Capabilities::ALL,
                    soname: None,
                    links: Vec::new(),
                    need,
                });
            }
            place.store(&inventory);
            set_mode(&place.path("host/closed"), 0o700);
            let gone = place.path("host/gone");
            let _ = fs::remove_dir_all(&gone);
            let script = "busybox cat /usr/lib/libcuda.so; echo; \
                for name in closed gone open; do busybox test -e /run/$name/socket && echo has-$name; done; echo started";
            place.make_config("1", script, |config| {
                if mapped {
                    map(config, &place.path("image"));
                } else {
                    config["root"]["path"] = json!(place.path("image"));
                }
            });
            let output = text(&place.start_by(way, below));
            for (wanted, is_there) in [
                ("a library", true),
                ("has-open", true),
                ("has-gone", false),
                ("has-closed", !mapped),
                ("started", true),
            ] {
                let has_it = output.contains(wanted);
                assert_eq!(has_it, is_there, "{wanted} in {name}:\n{output}");
            }
        }
    }
}

#[test]
fn a_library_that_cannot_be_reached_refuses_the_container() {
    if !can_run() {
        return;
    }
    for way in [Way::Shim, Way::Prestart] {
        let place = place(&format!("required-{way:?}").to_lowercase());
        fs::remove_file(place.path("host/libcuda.so.1.2.3")).unwrap();
        place.make_config("1", "echo started", |config| {
            config["root"]["path"] = json!(place.path("image"));
        });
        let output = text(&place.start_by(way, Below::Runc));
        assert!(!output.contains("started"), "{output}");
        assert!(
            output.contains("libcuda.so.1.2.3: No such file"),
            "{output}"
        );
    }
}

/// A spec made by another tool: its hooks have no argument that names the root file system.
#[test]
fn the_vendors_hooks_find_the_root_of_a_closed_bundle_too() {
    if !can_run() {
        return;
    }
    let place = place("closed-vendor");
    let hook = place.path("nvidia-cdi-hook");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_gpu-container"), &hook).unwrap();
    place.make_config("void", "busybox ls -l /usr/lib; echo started", |config| {
        map(config, &place.path("image"));
        // A directory in the bundle that looks like a root file system, as a volume could.
        let mounts = config["mounts"].as_array_mut().unwrap();
        for (at, kind) in [("/mnt", "tmpfs"), ("/mnt/proc", "proc"), ("/mnt/dev", "tmpfs")] {
            mounts.push(json!({"destination": at, "type": kind, "source": kind}));
        }
        config["hooks"] = json!({"createContainer": [{
            "path": hook,
            "args": ["nvidia-cdi-hook", "create-symlinks", "--link", "libcuda.so.1::/usr/lib/libcuda.so"],
        }]});
    });
    set_mode(&place.path("bundle"), 0o700);
    let output = text(&place.start_plain(Below::Runc));
    assert!(
        output.contains("libcuda.so -> libcuda.so.1") && output.contains("started"),
        "{output}"
    );
}

/// A hook with a wrong state, outside of any container, refuses, whatever the host has mounted.
#[test]
fn no_other_directory_is_taken_for_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state.json");
    let text = json!({"bundle": dir.path().join("not-there"), "pid": 0});
    fs::write(&state, text.to_string()).unwrap();
    let hook = dir.path().join("nvidia-cdi-hook");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_gpu-container"), &hook).unwrap();
    let out = std::process::Command::new(hook)
        .args(["create-symlinks", "--link", "a::/b", "--container-spec"])
        .arg(&state)
        .current_dir(dir.path())
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success(), "{output}");
    assert!(
        output.contains("not-there/config.json: No such file"),
        "{output}"
    );
    assert!(!output.contains("mountinfo"), "{output}");
    assert!(!dir.path().join("b").exists());
}
