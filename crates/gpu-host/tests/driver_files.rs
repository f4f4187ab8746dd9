//! The driver's files are found below any driver root. Needs root to make device nodes.
#![allow(clippy::unwrap_used)]

mod fake;

use std::fs;
use std::path::{Path, PathBuf};

use fake::{VERSION, discovered, file, host, options};
use fake_driver::describe::Description;
use gpu_host::{Capabilities, Capability, FileKind, Mismatch, Need, Options, discover, mismatch};

#[test]
fn the_whole_driver_is_found_below_any_driver_root_with_the_same_container_paths() {
    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/") else {
        return;
    };
    let usual = discovered(&dir).driver.unwrap().files;
    assert!(usual.len() > 50, "{}", usual.len());
    for driver_root in ["/run/nvidia/driver", "/opt/nvidia/current", "/host"] {
        let dir = host(&Description::of(VERSION, 1, 0), driver_root).unwrap();
        let mut options = options(&dir);
        options.driver_root = driver_root.into();
        let files = discover(&options).unwrap().driver.unwrap().files;
        let names =
            |f: &[gpu_host::DriverFile]| f.iter().map(|f| f.path.clone()).collect::<Vec<_>>();
        assert_eq!(names(&files), names(&usual), "{driver_root}");
        for file in files {
            assert_eq!(
                file.host_path,
                Path::new(driver_root).join(file.path.strip_prefix("/").unwrap())
            );
        }
    }
}

/// GKE's and COS's layout: bin, lib64, vulkan and firmware directly below the driver root.
#[test]
fn a_driver_root_with_lib64_directly_below_works() {
    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/usr/local/nvidia") else {
        return;
    };
    let root = dir.path().join("usr/local/nvidia");
    for (from, to) in [
        ("usr/lib/x86_64-linux-gnu", "lib64"),
        ("usr/bin", "bin"),
        ("usr/share/vulkan", "vulkan"),
    ] {
        fs::rename(root.join(from), root.join(to)).unwrap();
    }
    fs::remove_dir_all(root.join("usr")).unwrap();
    fs::remove_file(root.join("etc/ld.so.cache")).unwrap();
    let mut options = options(&dir);
    options.driver_root = "/usr/local/nvidia".into();
    let inventory = discover(&options).unwrap();
    let cuda = file(&inventory, "/lib64/libcuda.so.580.65.06").unwrap();
    assert_eq!(
        cuda.host_path,
        Path::new("/usr/local/nvidia/lib64/libcuda.so.580.65.06")
    );
    assert!(file(&inventory, "/bin/nvidia-smi").is_some());
    // No Vulkan loader searches /vulkan, so the file has another path in the container.
    let icd = file(&inventory, "/etc/vulkan/icd.d/nvidia_icd.json").unwrap();
    assert_eq!(
        icd.host_path,
        Path::new("/usr/local/nvidia/vulkan/icd.d/nvidia_icd.json")
    );
    assert!(mismatch(&options, &inventory).is_none());
}

#[test]
fn libraries_of_another_version_than_the_kernel_module_are_named_with_both() {
    let mut description = Description::of(VERSION, 1, 0);
    description.loaded_version = Some("570.10.01".into());
    let Some(dir) = host(&description, "/") else {
        return;
    };
    let message = mismatch(&options(&dir), &discovered(&dir))
        .unwrap()
        .to_string();
    assert!(
        message.contains("570.10.01") && message.contains(VERSION),
        "{message}"
    );
}

#[test]
fn a_mismatch_names_the_driver_root_that_has_the_libraries() {
    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/run/nvidia/driver") else {
        return;
    };
    let options = options(&dir);
    let mismatch_here = mismatch(&options, &discover(&options).unwrap()).unwrap();
    let said = mismatch_here.to_string();
    assert!(
        said.contains("there are below /run/nvidia/driver"),
        "{said}"
    );
    let Mismatch::NoLibraries { elsewhere, .. } = mismatch_here else {
        panic!("{said}")
    };
    assert_eq!(elsewhere.unwrap(), Path::new("/run/nvidia/driver"));
    let right = Options {
        driver_root: "/run/nvidia/driver".into(),
        ..options
    };
    assert_eq!(mismatch(&right, &discover(&right).unwrap()), None);
}

#[test]
fn firmware_is_looked_up_where_the_kernel_looks() {
    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/run/nvidia/driver") else {
        return;
    };
    let mut options = options(&dir);
    options.driver_root = "/run/nvidia/driver".into();
    let firmware = |options: &Options| -> Vec<PathBuf> {
        let files = discover(options).unwrap().driver.unwrap().files;
        let files = files.into_iter().filter(|f| f.kind == FileKind::Firmware);
        files.map(|f| f.path).collect()
    };
    assert_eq!(
        firmware(&options)[0],
        Path::new("/lib/firmware/nvidia/580.65.06/gsp_ga10x.bin")
    );
    let root = dir.path().join("run/nvidia/driver");
    let place = |path: &str| {
        let dir = root.join(path).join("nvidia").join(VERSION);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("gsp_x.bin"), "x").unwrap();
    };
    place("lib/firmware/updates");
    assert_eq!(
        firmware(&options),
        [Path::new(
            "/lib/firmware/updates/nvidia/580.65.06/gsp_x.bin"
        )]
    );
    place("var/firmware");
    let parameter = dir.path().join("sys/module/firmware_class/parameters");
    fs::create_dir_all(&parameter).unwrap();
    fs::write(parameter.join("path"), "/run/nvidia/driver/var/firmware\n").unwrap();
    assert_eq!(
        firmware(&options),
        [Path::new("/var/firmware/nvidia/580.65.06/gsp_x.bin")]
    );
}

#[test]
fn only_nvidias_own_egl_platforms_and_both_data_directories() {
    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/") else {
        return;
    };
    let share = dir.path().join("usr/share");
    fs::write(share.join("egl/egl_external_platform.d/50_mesa.json"), "{}").unwrap();
    let local = dir.path().join("usr/local/share/vulkan/icd.d");
    fs::create_dir_all(&local).unwrap();
    fs::write(local.join("nvidia_icd.x86_64.json"), "{}").unwrap();
    let inventory = discovered(&dir);
    assert!(
        file(
            &inventory,
            "/usr/share/egl/egl_external_platform.d/15_nvidia_gbm.json"
        )
        .is_some()
    );
    assert!(
        file(
            &inventory,
            "/usr/share/egl/egl_external_platform.d/50_mesa.json"
        )
        .is_none()
    );
    assert!(
        file(
            &inventory,
            "/usr/local/share/vulkan/icd.d/nvidia_icd.x86_64.json"
        )
        .is_some()
    );
}

#[test]
fn directories_of_the_search_paths_are_searched_as_well() {
    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/") else {
        return;
    };
    let move_to = |from: &str, to: &str| {
        let to = dir.path().join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::rename(dir.path().join(from), to).unwrap();
    };
    move_to("usr/lib/x86_64-linux-gnu", "srv/nvidia/libs");
    move_to("usr/share/vulkan", "srv/nvidia/data/vulkan");
    fs::remove_file(dir.path().join("etc/ld.so.cache")).unwrap();
    let mut options = options(&dir);
    assert!(
        file(
            &discover(&options).unwrap(),
            "/srv/nvidia/libs/libcuda.so.580.65.06"
        )
        .is_none()
    );
    options.library_search = vec!["/srv/nvidia/libs".into()];
    options.config_search = vec!["/srv/nvidia/data".into()];
    let inventory = discover(&options).unwrap();
    assert!(file(&inventory, "/srv/nvidia/libs/libcuda.so.580.65.06").is_some());
    assert!(
        file(
            &inventory,
            "/srv/nvidia/libs/vdpau/libvdpau_nvidia.so.580.65.06"
        )
        .is_some()
    );
    assert!(file(&inventory, "/etc/vulkan/icd.d/nvidia_icd.json").is_some());
}

#[test]
fn thirty_two_bit_libraries_also_need_compat32() {
    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/") else {
        return;
    };
    let inventory = discovered(&dir);
    let library = file(&inventory, "/usr/lib/i386-linux-gnu/libcuda.so.580.65.06").unwrap();
    assert_eq!(library.kind, FileKind::Library32);
    assert_eq!(
        library.capabilities,
        Capabilities::of(&[Capability::Compute, Capability::Compat32])
    );
    let files = &inventory.driver.as_ref().unwrap().files;
    assert_eq!(
        files
            .iter()
            .filter(|f| f.kind == FileKind::Library32)
            .count(),
        6
    );
}

#[test]
fn opengl_of_drivers_before_glvnd_is_distinguished_from_mesas_by_its_version() {
    let Some(dir) = host(&Description::of("340.108", 1, 0), "/") else {
        return;
    };
    let lib = dir.path().join("usr/lib/x86_64-linux-gnu");
    for name in [
        "libGL.so.340.108",
        "libEGL.so.340.108",
        "libGL.so.1.7.0",
        "libEGL.so.1.1.0",
    ] {
        fs::write(lib.join(name), fake_driver::elf::shared_object(name, false)).unwrap();
    }
    let inventory = discovered(&dir);
    let has = |name: &str| file(&inventory, &format!("/usr/lib/x86_64-linux-gnu/{name}")).is_some();
    assert!(has("libGL.so.340.108") && has("libEGL.so.340.108"));
    assert!(!has("libGL.so.1.7.0") && !has("libEGL.so.1.1.0"));
}

#[test]
fn programs_are_listed_with_their_capabilities() {
    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/") else {
        return;
    };
    let inventory = discovered(&dir);
    let of = |name: &str| {
        file(&inventory, &format!("/usr/bin/{name}"))
            .unwrap()
            .capabilities
    };
    assert!(
        of("nvidia-smi").has(Capability::Utility) && !of("nvidia-smi").has(Capability::Compute)
    );
    assert!(
        of("nvidia-imex").has(Capability::Compute)
            && of("nvidia-imex-ctl").has(Capability::Utility)
    );
    assert!(of("nvidia-cuda-mps-server").has(Capability::Compute));
    assert!(
        of("nvidia-xconfig").has(Capability::Display)
            && !of("nvidia-xconfig").has(Capability::Utility)
    );
    // nvidia-modprobe makes device nodes as root, so no container gets it.
    fs::write(dir.path().join("usr/bin/nvidia-modprobe"), "").unwrap();
    assert!(file(&discovered(&dir), "/usr/bin/nvidia-modprobe").is_none());
}

#[test]
fn x_modules_are_found_where_distributions_put_them() {
    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/") else {
        return;
    };
    for place in [
        "usr/lib64/xorg/modules/updates/drivers",
        "usr/lib/nvidia/xorg",
        "usr/X11R6/lib64/modules/drivers",
    ] {
        let place = dir.path().join(place);
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("nvidia_drv.so"), "x").unwrap();
    }
    let inventory = discovered(&dir);
    let modules = inventory.driver.iter().flat_map(|d| &d.files);
    let modules: Vec<&str> = modules
        .filter(|f| f.kind == FileKind::XModule)
        .map(|f| f.path.to_str().unwrap())
        .collect();
    assert_eq!(
        modules,
        [
            "/usr/X11R6/lib64/modules/drivers/nvidia_drv.so",
            "/usr/lib/nvidia/xorg/nvidia_drv.so",
            "/usr/lib/xorg/modules/drivers/nvidia_drv.so",
            "/usr/lib/xorg/modules/extensions/libglxserver_nvidia.so.580.65.06",
            "/usr/lib64/xorg/modules/updates/drivers/nvidia_drv.so",
        ]
    );
}

#[test]
fn a_library_missing_from_the_table_is_recognized_by_its_version() {
    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/") else {
        return;
    };
    let name = format!("libnvidia-not-yet-known.so.{VERSION}");
    let path = dir.path().join("usr/lib/x86_64-linux-gnu").join(&name);
    fs::write(path, fake_driver::elf::shared_object(&name, false)).unwrap();
    let driver = discovered(&dir);
    let library = file(&driver, &format!("/usr/lib/x86_64-linux-gnu/{name}")).unwrap();
    assert!(library.capabilities.has(Capability::Compute));
}

/// A container starts without an optional file that is missing or that only some users can reach.
#[test]
fn sockets_firmware_and_data_files_are_optional_and_libraries_are_not() {
    use std::os::unix::fs::PermissionsExt;

    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/") else {
        return;
    };
    for (socket, mode) in [("persistenced", 0o755), ("fabricmanager", 0o700)] {
        let at = dir.path().join(format!("run/nvidia-{socket}"));
        fs::create_dir_all(&at).unwrap();
        std::os::unix::net::UnixListener::bind(at.join("socket")).unwrap();
        fs::set_permissions(&at, fs::Permissions::from_mode(mode)).unwrap();
    }
    let inventory = discovered(&dir);
    let need = |path: &str| file(&inventory, path).unwrap().need;
    assert_eq!(need("/run/nvidia-persistenced/socket"), Need::Optional);
    let closed = need("/run/nvidia-fabricmanager/socket");
    assert_eq!(closed, Need::OptionalAndClosed);
    for file in &inventory.driver.as_ref().unwrap().files {
        let is_optional = matches!(
            file.kind,
            FileKind::Socket | FileKind::Firmware | FileKind::Config
        );
        assert_eq!(file.need != Need::Required, is_optional, "{file:?}");
    }
    // In an inventory stored by a version without the field, every file is required.
    let text = serde_json::to_string(&inventory.driver).unwrap();
    let text = text.replace("\"need\"", "\"not-known-then\"");
    let driver: gpu_host::Driver = serde_json::from_str(&text).unwrap();
    assert!(driver.files.iter().all(|f| f.need == Need::Required));
}

#[test]
fn sockets_and_the_mps_directory_are_listed_if_they_exist() {
    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/") else {
        return;
    };
    for socket in ["run/nvidia-persistenced", "run/nvidia-fabricmanager"] {
        fs::create_dir_all(dir.path().join(socket)).unwrap();
        std::os::unix::net::UnixListener::bind(dir.path().join(socket).join("socket")).unwrap();
    }
    fs::create_dir_all(dir.path().join("tmp/nvidia-mps")).unwrap();
    let inventory = discovered(&dir);
    for path in [
        "/run/nvidia-persistenced/socket",
        "/run/nvidia-fabricmanager/socket",
        "/tmp/nvidia-mps",
    ] {
        assert_eq!(
            file(&inventory, path).unwrap().kind,
            FileKind::Socket,
            "{path}"
        );
    }
}
