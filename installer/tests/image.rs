//! Tests `install --image`: setting up an image from within while it is being built.
#![allow(clippy::unwrap_used)]

mod fixture;

use fixture::Tree;

#[test]
fn an_image_needs_no_gpu_and_is_undone() {
    let tree = Tree::new("26.1.5", "1.7.24");
    let before = tree.state();
    assert_eq!(tree.code(&["plan", "--image"]), 2);
    assert_eq!(tree.state(), before);
    assert_eq!(tree.code(&["install", "--yes", "--image"]), 0);
    let installed = tree.state();
    assert_ne!(installed, before);
    assert!(!tree.path("run/cdi").exists() && !tree.path("var/run/cdi").exists());
    assert_eq!(tree.code(&["install", "--yes", "--image"]), 0);
    assert_eq!(tree.state(), installed);
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
    assert_eq!(tree.state(), before);
}

/// The driver that is visible from within belongs to the machine that builds the image.
#[test]
fn an_image_describes_no_gpu_of_the_machine_that_builds() {
    let tree = Tree::new("26.1.5", "1.7.24");
    tree.write(
        "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06\n",
    );
    tree.write(
        "proc/driver/nvidia/gpus/0000:01:00.0/information",
        "Model: \t\t NVIDIA L4\nGPU UUID: \t GPU-1\nDevice Minor: \t 0\n",
    );
    let json = |args: &[&str]| -> serde_json::Value {
        serde_json::from_slice(&tree.run(args).stdout).unwrap()
    };
    let paths = |document: &serde_json::Value| document["diff"].to_string();
    assert!(paths(&json(&["plan", "--json"])).contains("cdi/nvidia.yaml"));
    assert!(!paths(&json(&["plan", "--image", "--json"])).contains("cdi/nvidia.yaml"));
}
