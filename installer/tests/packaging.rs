//! Tests what packages contain besides programs: maintainer scripts, which run on trees
//! (`DPKG_ROOT`, as dpkg --force-script-chrootless does), units, and the SELinux module.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use fixture::packages::{goes, host, packaging, stays_and_says};
use fixture::{DAEMON_JSON, Tree};
use skips::Need;

const THEIRS: &str =
    "{\n  \"runtimes\": {\"nvidia\": {\"path\": \"nvidia-container-runtime\", \"args\": []}}\n}\n";

fn install_compat(tree: &Tree) {
    symlink(
        "../lib/gpu-container/gpu-container",
        tree.path("usr/bin/nvidia-container-runtime"),
    )
    .unwrap();
}

fn set_up(tree: &Tree, more: &[&str]) {
    let words = [&["install", "--yes", "--engine", "docker"], more].concat();
    let done = tree.run(&words);
    assert!(done.status.success(), "{done:?}");
    let drop_in = "etc/systemd/system/docker.service.d/50-gpusetup.conf";
    assert!(tree.path(drop_in).exists());
}

const UPGRADES: [&[&str]; 8] = [
    &["upgrade", "0.2.0"],
    &["failed-upgrade", "0.2.0"],
    &["deconfigure", "in-favour", "other", "1"],
    &["configure", "0.1.0"],
    &["abort-upgrade", "0.2.0"],
    &["abort-remove"],
    &["triggered", "/usr/lib/firmware/nvidia"],
    &["1"],
];

#[test]
fn package_upgrades_change_no_setup() {
    let tree = host();
    set_up(&tree, &[]);
    tree.write("run/cdi/nvidia.yaml", "path: /usr/bin/gpu-container-hook");
    let before = (tree.state(), tree.read("run/cdi/nvidia.yaml"));
    let mut scripts = 0;
    for entry in fs::read_dir(packaging("scripts")).unwrap() {
        let entry = entry.unwrap();
        let package = entry.file_name().into_string().unwrap();
        for name in ["preinst", "postinst", "prerm", "postrm"] {
            if entry.path().join(name).exists() {
                scripts += 1;
                for words in UPGRADES {
                    goes(&tree, &package, name, words);
                }
            }
        }
    }
    assert!(scripts >= 4, "{scripts}");
    assert_eq!((tree.state(), tree.read("run/cdi/nvidia.yaml")), before);
}

#[test]
fn whichever_package_goes_first_no_engine_is_left_with_a_missing_program() {
    for first in ["gpusetup", "gpu-container-toolkit"] {
        for words in [["remove"], ["0"]] {
            let tree = host();
            let before = tree.state();
            set_up(&tree, &["--default-runtime"]);
            goes(&tree, first, "prerm", &words);
            assert_eq!(tree.read("etc/docker/daemon.json"), DAEMON_JSON);
            for package in ["gpusetup", "gpu-container-toolkit"] {
                goes(&tree, package, "prerm", &words);
                goes(&tree, package, "postrm", &words);
                if words == ["remove"] {
                    goes(&tree, package, "postrm", &["purge"]);
                }
            }
            assert_eq!(tree.state(), before, "{first} first");
            assert!(!tree.path("run/gpusetup.lock").exists());
        }
    }
}

#[test]
fn an_engine_set_up_by_hand_keeps_the_toolkit_until_it_is_not() {
    let tree = host();
    let ours = "{\"runtimes\": {\"nvidia\": {\"path\": \"/usr/bin/gpu-container-runtime\"}}}\n";
    tree.write("etc/docker/daemon.json", ours);
    stays_and_says(
        &tree,
        "gpu-container-toolkit",
        &["remove"],
        "/etc/docker/daemon.json",
    );
    assert_eq!(tree.read("etc/docker/daemon.json"), ours);
    tree.write("etc/docker/daemon.json", "{}");
    tree.write(
        "etc/containerd/config.toml",
        "# gpu-container-runtime is gone\n",
    );
    goes(&tree, "gpu-container-toolkit", "prerm", &["remove"]);
}

#[test]
fn changes_by_the_user_keep_the_package_and_name_a_fix() {
    let tree = host();
    set_up(&tree, &["--default-runtime"]);
    let text = tree.read("etc/docker/daemon.json");
    let text = text.replace("gpu-container-runtime", "gpu-container-runtime-mine");
    tree.write("etc/docker/daemon.json", &text);
    for package in ["gpusetup", "gpu-container-toolkit"] {
        stays_and_says(&tree, package, &["remove"], "gpusetup undo");
    }
    assert_eq!(tree.read("etc/docker/daemon.json"), text);
}

#[test]
fn of_the_files_in_run_ours_go() {
    let tree = host();
    let theirs = "path: /usr/bin/nvidia-cdi-hook\n";
    tree.write("run/cdi/nvidia.yaml", theirs);
    tree.write("run/gpusetup/inventory.json", "{}");
    goes(&tree, "gpu-container-toolkit", "postrm", &["upgrade", "2"]);
    assert!(tree.path("run/gpusetup").exists());
    goes(&tree, "gpu-container-toolkit", "postrm", &["remove"]);
    assert_eq!(tree.read("run/cdi/nvidia.yaml"), theirs);
    assert!(!tree.path("run/gpusetup").exists());
    tree.write("run/cdi/nvidia.yaml", "path: /usr/bin/gpu-container-hook\n");
    let drop_ins = "run/systemd/transient/docker-1.scope.d";
    tree.write(&format!("{drop_ins}/60-gpu-container.conf"), "[Scope]\n");
    tree.write("run/systemd/transient/x.scope.d/50-x.conf", "[Scope]\n");
    goes(&tree, "gpu-container-toolkit", "postrm", &["0"]);
    assert!(!tree.path("run/cdi").exists());
    assert!(!tree.path(drop_ins).exists());
    assert!(
        tree.path("run/systemd/transient/x.scope.d/50-x.conf")
            .exists()
    );
}

#[test]
fn nvidias_names_go_only_where_somebody_has_them_afterwards() {
    let compat = "gpusetup-nvidia-compat";
    let tree = host();
    install_compat(&tree);
    goes(&tree, compat, "prerm", &["remove"]);
    tree.write("etc/docker/daemon.json", THEIRS);
    stays_and_says(&tree, compat, &["remove"], "/etc/docker/daemon.json");
    stays_and_says(&tree, compat, &["0"], "nvidia-container-toolkit");
    // dpkg removes it in favour of NVIDIA's package.
    let words = ["remove", "in-favour", "nvidia-container-toolkit", "1.20.0"];
    goes(&tree, compat, "prerm", &words);
    // With rpm, NVIDIA's package is already installed.
    fs::remove_file(tree.path("usr/bin/nvidia-container-runtime")).unwrap();
    tree.write("usr/bin/nvidia-container-runtime", "NVIDIA's");
    goes(&tree, compat, "prerm", &["0"]);
    assert_eq!(tree.read("etc/docker/daemon.json"), THEIRS);
}

#[test]
fn nothing_is_given_back_to_a_runtime_that_is_gone() {
    let tree = host();
    tree.write("usr/bin/nvidia-container-runtime", "NVIDIA's");
    tree.write("etc/docker/daemon.json", THEIRS);
    set_up(&tree, &["--existing", "adopt"]);
    assert_ne!(tree.read("etc/docker/daemon.json"), THEIRS);
    let ours = tree.state();
    fs::remove_file(tree.path("usr/bin/nvidia-container-runtime")).unwrap();
    stays_and_says(&tree, "gpusetup", &["remove"], "nvidia-container-toolkit");
    install_compat(&tree);
    stays_and_says(&tree, "gpusetup", &["remove"], "nvidia-container-toolkit");
    fs::remove_file(tree.path("usr/bin/nvidia-container-runtime")).unwrap();
    assert_eq!(
        tree.read("etc/docker/daemon.json"),
        ours[&tree.path("etc/docker/daemon.json")].1
    );
    tree.write("usr/bin/nvidia-container-runtime", "NVIDIA's");
    goes(&tree, "gpusetup", "prerm", &["remove"]);
    assert_eq!(tree.read("etc/docker/daemon.json"), THEIRS);
}

/// The exposure that `systemd-analyze security` reports for the unit, times ten (docs/security.md).
const EXPOSURE: &str = "20";

#[test]
fn the_units_rights_get_no_more() {
    let unit = packaging("systemd/gpusetup-cdi.service");
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--offline=true", "--no-pager"]);
    command.arg(format!("--threshold={EXPOSURE}")).arg(unit);
    if !skips::has(&[Need::SystemdAnalyze]) {
        return;
    }
    let done = command.output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{text}{done:?}");
}

/// A minimal SELinux policy.
const POLICY: &str = "(handleunknown allow)(mls true)(sid kernel)(sidorder (kernel))
(class file (read))(classorder (file))(sensitivity s0)(sensitivityorder (s0))
(category c0)(categoryorder (c0))(sensitivitycategory s0 (c0))
(user system_u)(role object_r)(role system_r)(type RUNTIME)(roletype object_r RUNTIME)
(roletype system_r RUNTIME)(userrole system_u object_r)(userrole system_u system_r)
(userlevel system_u (s0))(userrange system_u ((s0) (s0)))
(sidcontext kernel (system_u system_r RUNTIME ((s0) (s0))))(allow RUNTIME self (file (read)))\n";

#[test]
fn the_selinux_module_labels_our_program_where_the_policy_knows_runtimes() {
    if !skips::has(&[Need::Secilc]) {
        return;
    }
    for (has, wanted) in [("container_runtime_exec_t", true), ("other_t", false)] {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base.cil");
        fs::write(&base, POLICY.replace("RUNTIME", has)).unwrap();
        let contexts = dir.path().join("file_contexts");
        let mut command = Command::new("secilc");
        command.arg("-o").arg(dir.path().join("policy"));
        command.arg("-f").arg(&contexts).arg(base);
        command.arg(packaging("selinux/gpu-container.cil"));
        let done = command.output().unwrap();
        assert!(done.status.success(), "{done:?}");
        let text = fs::read_to_string(contexts).unwrap();
        assert_eq!(
            text.contains("/usr/lib/gpu-container/gpu-container"),
            wanted
        );
    }
}
