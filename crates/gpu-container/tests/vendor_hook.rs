//! The hooks of `nvidia-cdi-hook`, run by our program under that name, on usual and hostile images.
#![allow(clippy::unwrap_used)]

mod place;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use place::parts::shared_object;
use place::{StubbedBundle, text};

/// Whether the warning was given, on standard error or, if journald runs, in the journal.
fn warned(output: &str, what: &str) -> bool {
    output.contains(what) || Path::new("/run/systemd/journal/socket").exists()
}

fn good(place: &StubbedBundle, args: &[&str]) -> String {
    let out = place.vendor_hook(args);
    assert!(out.status.success(), "{args:?}: {}", text(&out));
    text(&out)
}

#[test]
fn create_symlinks_makes_links_in_the_image_alone() {
    let place = StubbedBundle::new();
    let outside = place.path("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, place.image("out")).unwrap();
    fs::create_dir_all(place.image("usr/lib")).unwrap();
    symlink("old", place.image("usr/lib/again")).unwrap();
    fs::write(place.image("usr/lib/own"), "the image's").unwrap();
    let output = good(
        &place,
        &[
            "create-symlinks",
            "--link",
            "libcuda.so.1::/usr/lib/libcuda.so",
            "--link=new::/usr/lib/again",
            "--link",
            "../../../../etc/passwd::/../../../../../deep/down/link",
            "--link",
            "x::/out/link",
            "--link",
            "x::/usr/lib/own",
        ],
    );
    let target = |path: &str| fs::read_link(place.image(path)).unwrap();
    assert_eq!(target("usr/lib/libcuda.so"), Path::new("libcuda.so.1"));
    assert_eq!(target("usr/lib/again"), Path::new("new"));
    assert_eq!(
        target("deep/down/link"),
        Path::new("../../../../etc/passwd")
    );
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(
        fs::read_to_string(place.image("usr/lib/own")).unwrap(),
        "the image's"
    );
    assert!(warned(&output, "/usr/lib/own"), "{output}");
    for bad in ["a", "a::b::c"] {
        assert!(
            !place
                .vendor_hook(&["create-symlinks", "--link", bad])
                .status
                .success()
        );
    }
}

#[test]
fn update_ldcache_writes_the_cache_and_leaves_nothing_else() {
    let place = StubbedBundle::new();
    let lib = place.image("usr/lib/x86_64-linux-gnu");
    fs::create_dir_all(&lib).unwrap();
    fs::create_dir_all(place.image("etc/ld.so.conf.d")).unwrap();
    fs::write(
        lib.join("libcuda.so.550.54"),
        shared_object("libcuda.so.1", None),
    )
    .unwrap();
    fs::write(lib.join("libodd.so.1"), "no library").unwrap();
    let args = [
        "update-ldcache",
        "--ldconfig-path",
        "/nowhere/ldconfig",
        "--folder",
        "/usr/lib/x86_64-linux-gnu",
        "--folder=/none",
    ];
    for _ in 0..3 {
        good(&place, &args);
    }
    let cached = place.loads("libcuda.so.1").unwrap();
    assert_eq!(
        cached,
        Path::new("/usr/lib/x86_64-linux-gnu/libcuda.so.550.54")
    );
    assert_eq!(place.loads("libodd.so.1"), None);
    let link = fs::read_link(lib.join("libcuda.so.1")).unwrap();
    assert_eq!(link, Path::new("libcuda.so.550.54"));
    let names = |path: &str| fs::read_dir(place.image(path)).unwrap().count();
    assert_eq!((names("etc/ld.so.conf.d"), names("etc")), (1, 2));
    assert!(!place.image("run").exists());
}

#[test]
fn update_ldcache_adds_to_musls_search_path_once() {
    let place = StubbedBundle::new();
    let arch = std::env::consts::ARCH;
    fs::create_dir_all(place.image("lib")).unwrap();
    fs::write(place.image(&format!("lib/ld-musl-{arch}.so.1")), "").unwrap();
    let lib = place.image("usr/lib64");
    fs::create_dir_all(&lib).unwrap();
    fs::write(
        lib.join("libcuda.so.550.54"),
        shared_object("libcuda.so.1", None),
    )
    .unwrap();
    for _ in 0..2 {
        good(&place, &["update-ldcache", "--folder", "/usr/lib64"]);
    }
    let path = fs::read_to_string(place.image(&format!("etc/ld-musl-{arch}.path"))).unwrap();
    assert_eq!(path, "/lib:/usr/local/lib:/usr/lib\n/usr/lib64\n");
}

#[test]
fn a_folder_that_leads_out_of_the_image_is_not_read() {
    let place = StubbedBundle::new();
    let outside = place.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(
        outside.join("libsecret.so.1"),
        shared_object("libsecret.so.1", None),
    )
    .unwrap();
    symlink(&outside, place.image("lib")).unwrap();
    symlink(
        outside.join("libsecret.so.1"),
        place.image("libsecret.so.1"),
    )
    .unwrap();
    good(
        &place,
        &["update-ldcache", "--folder", "/lib", "--folder", "/"],
    );
    assert_eq!(place.loads("libsecret.so.1"), None);
}

const NOTE: &str = r#"{"Format":1,"CUDA Version":"12.9","Driver":[535,550,570],"Device":[1]}"#;

#[test]
fn enable_cuda_compat_and_update_ldcache_work_together() {
    let place = StubbedBundle::new();
    let compat = place.image("usr/local/cuda/compat");
    fs::create_dir_all(&compat).unwrap();
    fs::create_dir_all(place.image("usr/lib")).unwrap();
    let library = shared_object("libcuda.so.1", Some(NOTE));
    fs::write(compat.join("libcuda.so.575.57.08"), library).unwrap();
    let driver = place.image("usr/lib/libcuda.so.550.54");
    fs::write(driver, shared_object("libcuda.so.1", None)).unwrap();
    let start = |flags: &[&str]| {
        good(&place, &[&["enable-cuda-compat"], flags].concat());
        good(&place, &["update-ldcache", "--folder", "/usr/lib"]);
        let cached = place.loads("libcuda.so.1").unwrap();
        cached.starts_with("/usr/local/cuda/compat")
    };
    assert!(start(&["--host-driver-version", "550.54"]));
    assert!(start(&["--host-driver-version=535.230.02"]));
    assert!(!start(&["--host-driver-version", "580.65.06"]));
    assert!(start(&["--host-cuda-version", "12.8"]));
    assert!(!start(&["--host-cuda-version", "12.9"]));
    assert!(!start(&[]));
    let other = [
        "--host-driver-version=550.54",
        "--cuda-compat-container-root=/none",
    ];
    assert!(!start(&other));
}

#[test]
fn update_application_profile_names_the_gpus_of_the_container() {
    let place = StubbedBundle::new();
    good(&place, &["update-application-profile"]);
    assert!(!place.image("etc/nvidia").exists());
    fs::create_dir(place.image("dev")).unwrap();
    let mode = Mode::from_bits_truncate(0o666);
    let node = place.image("dev/nvidia3");
    if !skips::has(&[skips::Need::DeviceNodes]) {
        return;
    }
    mknod(&node, SFlag::S_IFCHR, mode, makedev(195, 3)).unwrap();
    good(&place, &["update-application-profile"]);
    let profile = "etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf";
    let profile = fs::read_to_string(place.image(profile)).unwrap();
    assert!(profile.contains("\"EGLVisibleDGPUDevices\",8"), "{profile}");
}

#[test]
fn chmod_never_follows_a_link_out_of_the_image() {
    let place = StubbedBundle::new();
    let secret = place.path("secret");
    fs::write(&secret, "x").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    symlink(&secret, place.image("out")).unwrap();
    fs::create_dir(place.image("dir")).unwrap();
    good(&place, &["chmod", "--mode", "711", "--path", "/dir"]);
    let out = place.vendor_hook(&["chmod", "--mode", "777", "--path", "/out"]);
    assert!(!out.status.success());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&place.image("dir")), mode(&secret)), (0o711, 0o600));
    for bad in ["9", "", "rwx"] {
        let args = ["chmod", "--mode", bad, "--path", "/dir"];
        assert!(!place.vendor_hook(&args).status.success(), "{bad}");
    }
}

/// Specs of nvidia-ctk 1.14 to 1.16 name /dev/dri, which a container with only compute does not have.
#[test]
fn chmod_skips_missing_paths_and_changes_the_rest() {
    let place = StubbedBundle::new();
    fs::create_dir(place.image("dir")).unwrap();
    let paths = [
        "--path",
        "/dev/dri",
        "--path",
        "/dir/none",
        "--path",
        "/dir",
    ];
    good(&place, &[&["chmod", "--mode", "700"], &paths[..]].concat());
    let mode = fs::metadata(place.image("dir"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o700);
    assert!(!place.image("dev/dri").exists());
}

#[test]
fn an_unknown_hook_is_a_warning_and_an_unknown_flag_an_error() {
    let place = StubbedBundle::new();
    let output = good(&place, &["of-tomorrow", "--odd"]);
    assert!(warned(&output, "\"of-tomorrow\""), "{output}");
    let none = place
        .named("nvidia-cdi-hook")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(none.status.success() && warned(&text(&none), "no hook is named"));
    good(&place, &["noop"]);
    good(
        &place,
        &["--debug", "--quiet", "disable-device-node-modification"],
    );
    let out = place.vendor_hook(&["update-ldcache", "--odd", "x"]);
    assert_eq!(out.status.code(), Some(1));
}

#[test]
fn the_root_of_cruns_state_is_used_where_config_json_cannot_be_read() {
    let place = StubbedBundle::new();
    let state = place.path("crun.json");
    let text_of = serde_json::json!({"bundle": "/nowhere", "root": place.path("bundle/rootfs")});
    fs::write(&state, serde_json::to_vec(&text_of).unwrap()).unwrap();
    let out = place
        .named("nvidia-cdi-hook")
        .args(["create-symlinks", "--link", "a::/b"])
        .stdin(fs::File::open(&state).unwrap())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", text(&out));
    assert!(place.image("b").is_symlink());
}
