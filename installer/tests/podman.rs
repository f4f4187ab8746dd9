//! Tests Podman on directory trees: what keeps its containers from GPUs is reported, and nothing is
//! changed.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use fixture::Tree;

const SPEC: &str = "var/run/cdi/nvidia.yaml";

/// A tree with only that version of Podman.
fn tree(version: &str) -> Tree {
    let tree = Tree::new("20.10.24", "1.6.20");
    for path in ["usr/sbin/dockerd", "usr/bin/containerd"] {
        fs::remove_file(tree.path(path)).unwrap();
    }
    tree.write("usr/bin/podman", "");
    let status = format!("Package: podman\nStatus: install ok installed\nVersion: {version}\n\n");
    tree.write("var/lib/dpkg/status", &status);
    tree
}

/// The warnings of `plan` about Podman. The plan must not contain a change.
fn warnings(tree: &Tree) -> Vec<String> {
    let before = tree.state();
    // Conflicts with our spec are not reported by Podman.
    let out = tree.run(&["plan", "--json", "--existing", "leave"]);
    assert_eq!(out.status.code(), Some(0));
    assert_eq!(tree.state(), before);
    let document: Value = serde_json::from_slice(&out.stdout).unwrap();
    let list = document["warnings"].as_array().unwrap();
    let texts = list.iter().map(|w| w.as_str().unwrap().to_owned());
    let podmans = |w: &String| !w.contains("no driver") && !w.starts_with("left: ");
    texts.filter(podmans).collect()
}

fn notes(tree: &Tree) -> String {
    let out = tree.run(&["detect", "--json"]);
    let document: Value = serde_json::from_slice(&out.stdout).unwrap();
    document["engines"][0]["notes"].to_string()
}

#[test]
fn a_podman_that_cannot_read_the_spec_is_reported() {
    assert!(notes(&tree("3.4.4+ds1")).contains("too old for CDI"));
    assert_eq!(warnings(&tree("3.4.4+ds1")), Vec::<String>::new());
    // Device names begin with a digit, which the CDI library of this version refuses.
    assert!(warnings(&tree("4.2.1"))[0].contains("podman 4.3 reads it"));
    assert!(notes(&tree("4.3.1+ds1")).contains("uses CDI"));
    assert_eq!(warnings(&tree("4.3.1+ds1")), Vec::<String>::new());
    let tree = tree("4.3.1+ds1");
    tree.write(SPEC, "cdiVersion: 0.6.0\nkind: nvidia.com/gpu\n");
    assert!(warnings(&tree)[0].contains("up to 0.5.0"));
}

#[test]
fn a_spec_that_only_root_can_read_is_reported() {
    let tree = tree("5.4.2");
    tree.write(SPEC, "cdiVersion: 0.5.0\n");
    assert_eq!(warnings(&tree), Vec::<String>::new());
    fs::set_permissions(tree.path(SPEC), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(warnings(&tree)[0].contains("chmod 0644"));
}

#[test]
fn settings_that_hide_the_specs_directory_are_named_with_their_file() {
    let etc = "etc/containers/containers.conf";
    let drop_in = "etc/containers/containers.conf.d/50-x.conf";
    let user = "home/ada/.config/containers/containers.conf";
    let set = |dirs: &str| format!("[engine]\ncdi_spec_dirs = {dirs}\n");
    let tree = tree("5.4.2");
    tree.write(etc, &set("[\"/etc/cdi\"]"));
    assert!(warnings(&tree)[0].contains(etc));
    // A later file wins, and one that appends keeps the built-in directories.
    tree.write(drop_in, &set("[\"/opt/cdi\", {append=true}]"));
    assert_eq!(warnings(&tree), Vec::<String>::new());
    tree.write(drop_in, &set("[\"/run/cdi\"]"));
    tree.write(user, &set("[\"/home/ada/cdi\"]"));
    let shown = warnings(&tree);
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert!(shown[0].contains(user), "{shown:?}");
    // Before 5.1 the key has no effect.
    let old = self::tree("5.0.3");
    old.write(etc, &set("[\"/etc/cdi\"]"));
    assert_eq!(warnings(&old), Vec::<String>::new());
}

#[test]
fn selinux_is_reported_with_the_narrowest_boolean_first() {
    let tree = tree("5.4.2");
    let boolean = |name: &str, value: &str| {
        tree.write(&format!("sys/fs/selinux/booleans/{name}"), value);
    };
    boolean("container_use_devices", "0 0");
    tree.write("sys/fs/selinux/enforce", "0");
    assert_eq!(warnings(&tree), Vec::<String>::new());
    tree.write("sys/fs/selinux/enforce", "1");
    assert!(warnings(&tree)[0].contains("setsebool -P container_use_devices on"));
    boolean("container_use_xserver_devices", "0 0");
    assert!(warnings(&tree)[0].contains("setsebool -P container_use_xserver_devices on"));
    boolean("container_use_xserver_devices", "1 1");
    assert_eq!(warnings(&tree), Vec::<String>::new());
    boolean("container_use_xserver_devices", "0 0");
    boolean("container_use_devices", "1 1");
    assert_eq!(warnings(&tree), Vec::<String>::new());
}

#[test]
fn a_hook_of_the_vendor_is_named() {
    let tree = tree("5.4.2");
    let dir = "usr/share/containers/oci/hooks.d";
    tree.write(
        &format!("{dir}/other.json"),
        "{\"hook\": {\"path\": \"/x\"}}",
    );
    assert_eq!(warnings(&tree), Vec::<String>::new());
    let hook = "{\"hook\": {\"path\": \"/usr/bin/nvidia-container-toolkit\"}}";
    tree.write(&format!("{dir}/oci-nvidia-hook.json"), hook);
    assert!(warnings(&tree)[0].contains("hooks.d/oci-nvidia-hook.json"));
}

#[test]
fn nodes_of_a_group_need_keep_groups() {
    let tree = tree("5.4.2");
    tree.write("dev/nvidiactl", "");
    let mode = |mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(tree.path("dev/nvidiactl"), mode).unwrap();
    };
    mode(0o666);
    assert!(!notes(&tree).contains("keep-groups"));
    mode(0o660);
    assert!(notes(&tree).contains("--group-add keep-groups"));
}
