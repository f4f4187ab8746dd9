//! Device nodes of NVIDIA GPUs and of other hardware (IMEX, RDMA and so on), existing or not made yet. Needs root to make nodes.
#![allow(clippy::unwrap_used)]

mod fake;

use std::fs;
use std::path::Path;

use fake::{VERSION, discovered, host, options, paths};
use fake_driver::describe::Description;
use gpu_host::{Feature, discover};

#[test]
fn mig_config_and_monitor_are_found_by_their_capability_files() {
    let Some(dir) = host(&Description::of(VERSION, 1, 2), "/") else {
        return;
    };
    let control = discovered(&dir).mig_control;
    let (config, monitor) = (control.config.unwrap(), control.monitor.unwrap());
    assert_eq!(config.path, Path::new("/dev/nvidia-caps/nvidia-cap1"));
    assert_eq!((config.minor, config.mode), (1, 0o400));
    assert_eq!(monitor.path, Path::new("/dev/nvidia-caps/nvidia-cap2"));
}

#[test]
fn capability_minors_come_from_the_list_if_the_file_lacks_them() {
    let Some(dir) = host(&Description::of(VERSION, 1, 1), "/") else {
        return;
    };
    let whole = discovered(&dir);
    let caps = dir.path().join("proc/driver/nvidia/capabilities");
    for name in [
        "mig/config",
        "mig/monitor",
        "gpu0/mig/gi7/access",
        "gpu0/mig/gi7/ci0/access",
    ] {
        fs::write(caps.join(name), "").unwrap();
    }
    let by_list = discovered(&dir);
    assert_eq!(by_list.mig_control, whole.mig_control);
    assert_eq!(by_list.gpus[0].mig[0].nodes, whole.gpus[0].mig[0].nodes);
    assert_eq!(whole.gpus[0].mig[0].nodes.len(), 2);
}

#[test]
fn imex_channels_are_sorted_by_number() {
    let mut description = Description::of(VERSION, 1, 0);
    description.imex_channels = vec![0, 2, 10, 2047];
    let Some(dir) = host(&description, "/") else {
        return;
    };
    let channels = discovered(&dir).imex_channels;
    let ids: Vec<u32> = channels.iter().map(|c| c.id).collect();
    assert_eq!(ids, [0, 2, 10, 2047]);
    assert_eq!(
        channels[2].node.path,
        Path::new("/dev/nvidia-caps-imex-channels/channel10")
    );
}

#[test]
fn features_are_found_with_their_nodes_and_files() {
    let mut description = Description::of(VERSION, 1, 0);
    description.features = ["gds", "mofed", "gdrcopy", "nvswitch"]
        .map(Into::into)
        .into();
    let Some(dir) = host(&description, "/") else {
        return;
    };
    let inventory = discovered(&dir);
    let of = |feature: Feature| {
        inventory
            .features
            .iter()
            .find(|f| f.feature == feature)
            .unwrap()
    };
    assert_eq!(
        paths(&of(Feature::Gds).nodes),
        ["/dev/nvidia-fs0", "/dev/nvidia-fs1"]
    );
    let gds: Vec<&Path> = of(Feature::Gds)
        .files
        .iter()
        .map(|f| f.path.as_path())
        .collect();
    assert_eq!(gds, [Path::new("/etc/cufile.json"), Path::new("/run/udev")]);
    assert_eq!(
        paths(&of(Feature::Mofed).nodes),
        ["/dev/infiniband/uverbs0", "/dev/infiniband/rdma_cm"]
    );
    assert_eq!(paths(&of(Feature::Gdrcopy).nodes), ["/dev/gdrdrv"]);
    assert_eq!(
        paths(&of(Feature::Nvswitch).nodes),
        ["/dev/nvidia-nvswitchctl", "/dev/nvidia-nvswitch0"]
    );
}

#[test]
fn a_host_without_features_has_none() {
    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/") else {
        return;
    };
    let inventory = discovered(&dir);
    assert!(inventory.features.is_empty() && inventory.imex_channels.is_empty());
    assert!(inventory.missing_nodes.is_empty());
}

#[test]
fn an_additional_channel_makes_a_stored_inventory_stale() {
    let mut description = Description::of(VERSION, 1, 0);
    description.imex_channels = vec![0];
    let Some(dir) = host(&description, "/") else {
        return;
    };
    let inventory = discovered(&dir);
    assert!(inventory.is_fresh(&options(&dir).root));
    fs::write(
        dir.path().join("dev/nvidia-caps-imex-channels/channel1"),
        "",
    )
    .unwrap();
    assert!(!inventory.is_fresh(&options(&dir).root));
}

#[test]
fn a_replaced_slice_makes_a_stored_inventory_stale() {
    let Some(dir) = host(&Description::of(VERSION, 2, 2), "/") else {
        return;
    };
    let inventory = discovered(&dir);
    let is_fresh = || inventory.is_fresh(&options(&dir).root);
    let mig = dir.path().join("proc/driver/nvidia/capabilities/gpu1/mig");
    let instances = fs::read_dir(&mig).unwrap();
    let instance = instances.map(|i| i.unwrap().path()).next().unwrap();
    // The number of slices stays the same each time.
    for (old, new) in [
        (instance.join("ci0"), instance.join("ci1")),
        (instance.clone(), mig.join("gi99")),
    ] {
        assert!(is_fresh());
        fs::rename(&old, &new).unwrap();
        assert!(!is_fresh(), "{}", new.display());
        fs::rename(&new, &old).unwrap();
    }
    assert!(is_fresh());
}

#[test]
fn missing_nodes_are_described_as_the_driver_would_create_them() {
    let mut description = Description::of(VERSION, 2, 1);
    let Some(with) = host(&description, "/") else {
        return;
    };
    description.no_nodes = true;
    let without = host(&description, "/").unwrap();
    let (with, without) = (discovered(&with), discovered(&without));
    assert_eq!(without.control_nodes, with.control_nodes);
    assert_eq!(without.mig_control, with.mig_control);
    assert_eq!((with.gpus.len(), without.gpus.len()), (2, 2));
    for (a, b) in with.gpus.iter().zip(&without.gpus) {
        assert_eq!((&a.node, &a.mig), (&b.node, &b.mig));
    }
    let missing: Vec<&str> = without
        .missing_nodes
        .iter()
        .map(|p| p.to_str().unwrap())
        .collect();
    for node in [
        "/dev/nvidiactl",
        "/dev/nvidia-uvm",
        "/dev/nvidia1",
        "/dev/nvidia-caps/nvidia-cap1",
    ] {
        assert!(missing.contains(&node), "{node}: {missing:?}");
    }
}

#[test]
fn a_module_that_is_not_loaded_gives_no_node() {
    let mut description = Description::of(VERSION, 1, 0);
    description.no_nodes = true;
    let Some(dir) = host(&description, "/") else {
        return;
    };
    let devices = dir.path().join("proc/devices");
    fs::remove_file(&devices).unwrap();
    fs::write(
        &devices,
        "Character devices:\n195 nvidia-frontend\n\nBlock devices:\n389 nvidia-uvm\n",
    )
    .unwrap();
    let inventory = discovered(&dir);
    let control = inventory.control_nodes.iter().map(|c| &c.node);
    assert_eq!(paths(control), ["/dev/nvidiactl"]);
    assert_eq!(inventory.mig_control.config, None);
}

#[test]
fn missing_nodes_get_owner_and_mode_from_the_module_parameters() {
    let mut description = Description::of(VERSION, 1, 0);
    description.no_nodes = true;
    let Some(dir) = host(&description, "/") else {
        return;
    };
    let params = dir.path().join("proc/driver/nvidia/params");
    fs::remove_file(&params).unwrap();
    fs::write(
        &params,
        "DeviceFileUID: 0\nDeviceFileGID: 27\nDeviceFileMode: 432\n",
    )
    .unwrap();
    let node = &discovered(&dir).gpus[0].node;
    assert_eq!((node.mode, node.gid), (0o660, 27));
}

#[test]
fn nodes_below_a_driver_container_are_taken_from_there() {
    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/run/nvidia/driver") else {
        return;
    };
    fs::rename(
        dir.path().join("dev"),
        dir.path().join("run/nvidia/driver/dev"),
    )
    .unwrap();
    let mut options = options(&dir);
    options.driver_root = "/run/nvidia/driver".into();
    let inventory = discover(&options).unwrap();
    let node = &inventory.gpus[0].node;
    assert_eq!(node.path, Path::new("/dev/nvidia0"));
    assert_eq!(node.host_path, Path::new("/run/nvidia/driver/dev/nvidia0"));
    assert!(inventory.missing_nodes.is_empty());
    options.dev_root = Some("/".into());
    assert!(!discover(&options).unwrap().missing_nodes.is_empty());
}
