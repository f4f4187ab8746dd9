//! Hostile images that are not based on a known CVE.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use serde_json::{Value, json};

use super::image::{Image, Outcome, Scene};

const NOTHING: fn(&Scene) = |_| {};

const fn image(name: &'static str, outcome: Outcome, make: fn(&Scene)) -> Image {
    Image {
        name,
        cve: "",
        make,
        env: &[],
        config: None,
        outcome,
    }
}

const fn configured(
    name: &'static str,
    outcome: Outcome,
    make: fn(&Scene),
    config: fn(&mut Value, &Scene),
) -> Image {
    Image {
        config: Some(config),
        ..image(name, outcome, make)
    }
}

use Outcome::{
    Either, Refused, RefusedUnderRunc, Starts, StartsByPrestart, StartsSomehow, StartsUnderRunc,
};

pub(crate) const IMAGES: &[Image] = &[
    image("etc-far-up", Starts, |s| {
        fs::remove_dir(s.at("etc")).unwrap();
        s.link("etc", Scene::far_up(&s.canary));
    }),
    image("libraries-far-up", StartsUnderRunc, |s| {
        s.link(&s.libraries, Scene::far_up(&s.canary.join("lib")));
    }),
    image("libraries-through-procfs", Either, |s| {
        s.link(
            &s.libraries,
            format!("/proc/self/root{}", s.canary.display()),
        );
    }),
    image("libraries-through-the-cwd", Either, |s| {
        s.link(&s.libraries, "/proc/self/cwd");
    }),
    image("etc-in-sysctl", Either, |s| {
        fs::remove_dir(s.at("etc")).unwrap();
        s.link("etc", "/proc/sys/kernel");
    }),
    image("libraries-in-cgroups", Either, |s| {
        s.link(&s.libraries, "/sys/fs/cgroup");
    }),
    image("libraries-in-dev", StartsSomehow, |s| {
        s.link(&s.libraries, "/dev");
    }),
    image("cache-fifo", Starts, |s| s.fifo("etc/ld.so.cache")),
    image("cache-socket", Starts, |s| s.socket("etc/ld.so.cache")),
    image("cache-device", Starts, |s| s.device("etc/ld.so.cache")),
    image("cache-directory", Refused, |s| {
        fs::create_dir_all(s.at("etc/ld.so.cache/x")).unwrap();
    }),
    image("cache-loop", Starts, |s| {
        s.link("etc/ld.so.cache", "ld.so.cache");
    }),
    // The file is sparse; a tar would have it in full.
    configured(
        "cache-huge",
        Refused,
        |s| {
            fs::File::create(s.at("etc/ld.so.cache"))
                .unwrap()
                .set_len(1 << 34)
                .unwrap();
        },
        |_, _| {},
    ),
    image("cache-malformed", Starts, |s| {
        let mut cache = b"glibc-ld.so.cache1.1".to_vec();
        cache.extend([0xff; 4096]);
        s.file("etc/ld.so.cache", cache);
    }),
    image("cache-that-swells", Refused, |s| {
        // A hundred thousand entries that all refer to one string of 4 kB.
        let (count, text) = (100_000_u32, 4000);
        let at = 48 + count * 24;
        let mut cache = b"glibc-ld.so.cache1.1".to_vec();
        for number in [count, text, 2, 0, 0, 0, 0] {
            cache.extend(number.to_ne_bytes());
        }
        for _ in 0..count {
            for number in [0x0303, at, at, 0, 0, 0] {
                cache.extend(number.to_ne_bytes());
            }
        }
        cache.extend(vec![b'a'; text as usize]);
        cache.push(0);
        s.file("etc/ld.so.cache", cache);
    }),
    configured(
        "cache-with-a-second-name",
        Starts,
        |s| fs::hard_link(s.canary.join("ld.so.cache"), s.at("etc/ld.so.cache")).unwrap(),
        |_, _| {},
    ),
    image("library-fifo", Starts, |s| {
        let at = s.library();
        s.fifo(at.strip_prefix(&s.rootfs).unwrap().to_str().unwrap());
    }),
    image("library-socket", Starts, |s| {
        let at = s.library();
        s.socket(at.strip_prefix(&s.rootfs).unwrap().to_str().unwrap());
    }),
    image("library-device", Starts, |s| {
        let at = s.library();
        s.device(at.strip_prefix(&s.rootfs).unwrap().to_str().unwrap());
    }),
    image("library-directory", Refused, |s| {
        fs::create_dir_all(s.library().join("x")).unwrap();
    }),
    image("library-leads-out", Starts, |s| {
        let at = s.library();
        let path = at
            .strip_prefix(&s.rootfs)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        s.link(&path, s.canary.join("lib/libcuda.so.1.2.3"));
    }),
    image("library-leads-to-nothing-outside", Starts, |s| {
        let at = s.library();
        let path = at
            .strip_prefix(&s.rootfs)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        s.link(&path, s.canary.join("not-there/libcuda.so"));
    }),
    image("library-loop", Refused, |s| {
        let at = s.library();
        let path = at
            .strip_prefix(&s.rootfs)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let name = at.file_name().unwrap();
        s.link(&path, name);
    }),
    configured(
        "library-with-a-second-name",
        Starts,
        |s| fs::hard_link(s.canary.join("lib/libcuda.so.1.2.3"), s.library()).unwrap(),
        |_, _| {},
    ),
    image("driver-baked-in", Starts, |s| {
        fs::write(s.library(), b"\x7fELF\x02\x01\x01 and no more").unwrap();
        fs::write(s.beside_library("libcuda.so.1"), "an older one").unwrap();
        fs::write(s.beside_library("libcuda.so"), "an older one").unwrap();
        fs::write(s.beside_library("libcuda.so.470.1"), vec![0; 1 << 20]).unwrap();
    }),
    image("soname-leads-out", Starts, |s| {
        let path = format!("{}/libcuda.so.1", s.libraries);
        s.link(&path, s.canary.join("lib/libcuda.so.1"));
        s.link(
            &format!("{}/libcuda.so", s.libraries),
            s.canary.join("secret"),
        );
    }),
    image("soname-directory", Starts, |s| {
        fs::create_dir_all(s.beside_library("libcuda.so.1/x")).unwrap();
    }),
    image("soname-fifo", Starts, |s| {
        s.fifo(&format!("{}/libcuda.so.1", s.libraries));
    }),
    image("libraries-dangling", StartsUnderRunc, |s| {
        s.link(&s.libraries, "/missing");
    }),
    image("libraries-dangling-far-up", StartsUnderRunc, |s| {
        s.link(&s.libraries, "../../../../../missing/../and/more");
    }),
    image("var-run-without-run", StartsUnderRunc, |s| {
        s.link("var/run", "/run");
    }),
    image("etc-dangling", Starts, |s| {
        fs::remove_dir(s.at("etc")).unwrap();
        s.link("etc", "/not/there");
    }),
    image("libraries-loop", Refused, |s| {
        let name = s.libraries.rsplit('/').next().unwrap().to_owned();
        s.link(&s.libraries, name);
    }),
    image("libraries-file", Refused, |s| {
        s.file(&s.libraries, "no directory");
    }),
    image("thirty-links", Starts, |s| {
        for n in 0..30 {
            s.link(&format!("chain/{n}"), format!("/chain/{}", n + 1));
        }
        fs::create_dir_all(s.at("chain/30")).unwrap();
        s.link(&s.libraries, "/chain/0");
    }),
    image("a-thousand-links", Refused, |s| {
        for n in 0..1000 {
            s.link(&format!("chain/{n}"), format!("/chain/{}", n + 1));
        }
        s.link(&s.libraries, "/chain/0");
    }),
    image("very-deep", Starts, |s| {
        let deep = "d/".repeat(800);
        fs::create_dir_all(s.at(&deep)).unwrap();
        s.link(&s.libraries, format!("/{deep}"));
    }),
    image("names-with-newlines", Starts, |s| {
        fs::create_dir_all(s.at("a\nb\u{1b}[2J")).unwrap();
        s.link(&s.libraries, "/a\nb\u{1b}[2J");
        fs::remove_dir(s.at("etc")).unwrap();
        fs::create_dir_all(s.at("e\nlevel=error")).unwrap();
        s.link("etc", "e\nlevel=error");
    }),
    image("dev-leads-out", Either, |s| s.link("dev", &s.canary)),
    image("dev-is-a-file", Either, |s| s.file("dev", "")),
    image("proc-leads-out", Either, |s| s.link("proc", &s.canary)),
    image("proc-is-a-file", Either, |s| s.file("proc", "")),
    image("a-proc-of-its-own", Starts, |s| {
        s.file("proc/driver/nvidia/params", "ModifyDeviceFiles: 1\n");
        s.link("proc/self", &s.canary);
    }),
    image("run-leads-out", StartsUnderRunc, |s| {
        s.link("run", &s.canary);
        s.link("var/run", &s.canary);
    }),
    Image {
        env: &[
            ("GCONV_PATH", "/proc/self/cwd"),
            ("LD_LIBRARY_PATH", "/proc/self/cwd:."),
            ("GLIBC_TUNABLES", "glibc.malloc.check=3"),
            ("LOCPATH", "/proc/self/cwd"),
            ("BASH_ENV", "/proc/self/cwd/evil"),
            ("PATH", "/proc/self/cwd:/bin"),
            ("GPU_CONTAINER_HOOK", "../../x"),
            ("NVIDIA_CTK_CONFIG_FILE_PATH", "/etc/evil.toml"),
            ("TMPDIR", "/proc/self/cwd"),
        ],
        ..image("environment", Starts, |s| {
            s.evil_library("libc.so.6");
            s.evil_library("ld-linux-x86-64.so.2");
            s.evil_library("UTF-8.so");
            s.evil_program("evil");
            s.evil_program("runc");
            s.file(
                "etc/evil.toml",
                "[nvidia-container-runtime]\nruntimes = [\"/evil\"]\n",
            );
        })
    },
    configured(
        "read-only-root",
        Starts,
        |s| s.file("etc/ld.so.cache", ""),
        |c, _| c["root"]["readonly"] = json!(true),
    ),
    configured(
        "read-only-root-without-a-cache",
        StartsSomehow,
        NOTHING,
        |c, _| {
            c["root"]["readonly"] = json!(true);
        },
    ),
    configured(
        "read-only-etc",
        Starts,
        |s| s.file("etc/ld.so.cache", ""),
        |c, s| {
            mount(
                c,
                &s.rootfs.join("etc").display().to_string(),
                "/etc",
                &["rbind", "ro"],
            );
        },
    ),
    configured(
        "read-only-etc-without-a-cache",
        StartsSomehow,
        NOTHING,
        |c, s| {
            mount(
                c,
                &s.rootfs.join("etc").display().to_string(),
                "/etc",
                &["rbind", "ro"],
            );
        },
    ),
    configured(
        "immutable-etc",
        Starts,
        |s| {
            s.file("etc/ld.so.cache", "");
            immutable(s, "+i");
        },
        |_, _| {},
    ),
    configured(
        "libraries-are-a-mount",
        Starts,
        |s| fs::create_dir_all(s.at(&s.libraries)).unwrap(),
        |c, s| tmpfs(c, &format!("/{}", s.libraries), &["nosuid", "nodev"]),
    ),
    configured(
        "libraries-are-a-read-only-mount",
        Either,
        |s| fs::create_dir_all(s.at(&s.libraries)).unwrap(),
        |c, s| tmpfs(c, &format!("/{}", s.libraries), &["ro"]),
    ),
    configured(
        "a-volume-is-the-library-directory",
        Refused,
        |s| {
            s.link(&s.libraries, "/volume/lib");
            fs::create_dir_all(s.at("the-volume")).unwrap();
        },
        |c, s| {
            let volume = s.rootfs.join("the-volume").display().to_string();
            mount(c, &volume, "/volume", &["rbind"]);
        },
    ),
    configured(
        "shared-root",
        Starts,
        |s| {
            // Shared propagation, as systemd sets for the host: mounts made inside may appear here.
            let rootfs = s.rootfs.display().to_string();
            must("mount", &["--bind", &rootfs, &rootfs]);
            must("mount", &["--make-shared", &rootfs]);
        },
        |c, _| c["linux"]["rootfsPropagation"] = json!("shared"),
    ),
    configured("overlay", Starts, overlay, |_, _| {}),
    configured(
        "read-only-file-system",
        RefusedUnderRunc,
        |s| {
            // The runtime's own mount points exist, so that only ours are missing.
            for dir in ["proc", "sys", "dev"] {
                fs::create_dir_all(s.at(dir)).unwrap();
            }
            read_only(s);
        },
        |_, _| {},
    ),
    configured(
        "read-only-file-system-with-everything",
        Starts,
        |s| {
            for dir in ["proc", "sys", "dev"] {
                fs::create_dir_all(s.at(dir)).unwrap();
            }
            fs::write(s.library(), "").unwrap();
            s.file("var/run/nvidia-persistenced/socket", "");
            s.file("etc/ld.so.cache", "");
            read_only(s);
        },
        |_, _| {},
    ),
    configured(
        "user-namespace",
        StartsByPrestart,
        |s| {
            for path in ["", "bin", "etc", "tmp", "bin/busybox"] {
                chown(s.rootfs.join(path), Some(100_000), Some(100_000)).unwrap();
            }
            s.link("lib64", &s.canary);
            s.link(&s.libraries, "/libraries");
        },
        user_namespace,
    ),
    configured(
        "libraries-in-an-idmapped-volume",
        Either,
        |s| {
            for path in ["", "bin", "etc", "tmp", "bin/busybox"] {
                chown(s.rootfs.join(path), Some(100_000), Some(100_000)).unwrap();
            }
            s.link(&s.libraries, "/volume");
            fs::create_dir_all(s.at("the-volume")).unwrap();
        },
        |c, s| {
            user_namespace(c, s);
            let volume = s.rootfs.join("the-volume").display().to_string();
            mount(c, &volume, "/volume", &["bind", "idmap"]);
        },
    ),
    configured(
        "user-namespace-where-etc-is-nobodys",
        StartsByPrestart,
        |s| {
            for path in ["", "bin", "tmp", "bin/busybox"] {
                chown(s.rootfs.join(path), Some(100_000), Some(100_000)).unwrap();
            }
            s.file("etc/ld.so.cache", "");
        },
        user_namespace,
    ),
];

fn mount(config: &mut Value, source: &str, destination: &str, options: &[&str]) {
    config["mounts"].as_array_mut().unwrap().push(json!({
        "type": "bind", "source": source, "destination": destination, "options": options,
    }));
}

fn tmpfs(config: &mut Value, destination: &str, options: &[&str]) {
    config["mounts"].as_array_mut().unwrap().push(json!({
        "type": "tmpfs", "source": "tmpfs", "destination": destination, "options": options,
    }));
}

fn user_namespace(config: &mut Value, scene: &Scene) {
    // The runtime must be able to enter the bundle.
    for dir in scene.rootfs.ancestors().skip(1).take(2) {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "user"}));
    let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    config["linux"]["uidMappings"] = ids.clone();
    config["linux"]["gidMappings"] = ids;
}

fn must(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().unwrap();
    assert!(out.status.success(), "{program} {args:?}: {out:?}");
}

fn immutable(scene: &Scene, flag: &str) {
    let etc = scene.rootfs.join("etc").display().to_string();
    must("chattr", &["-R", flag, &etc]);
}

/// Mounts an overlay over the root file system.
fn overlay(scene: &Scene) {
    let rootfs = scene.rootfs.display().to_string();
    let work = scene.rootfs.with_file_name("overlay").display().to_string();
    for dir in ["upper", "work"] {
        fs::create_dir_all(format!("{work}/{dir}")).unwrap();
    }
    scene.link("etc/ld.so.cache", scene.canary.join("ld.so.cache"));
    let lower = format!("{work}/lower");
    must("cp", &["-a", &rootfs, &lower]);
    must("mount", &["--bind", &lower, &lower]);
    must("mount", &["-o", "remount,bind,ro", &lower]);
    let options = format!("lowerdir={lower},upperdir={work}/upper,workdir={work}/work");
    must(
        "mount",
        &["-t", "overlay", "-o", &options, "overlay", &rootfs],
    );
}

/// Makes the file system of the image read-only, instead of having the runtime do so.
fn read_only(scene: &Scene) {
    let rootfs = scene.rootfs.display().to_string();
    must("mount", &["--bind", &rootfs, &rootfs]);
    must("mount", &["-o", "remount,bind,ro", &rootfs]);
}

/// Unmounts and resets whatever an image may have set, so that its directory can be removed.
pub(crate) fn clean_up(scene: &Scene) {
    let lower = scene.rootfs.with_file_name("overlay/lower");
    for path in [&scene.rootfs, &lower] {
        let _ = Command::new("umount").args(["-q", "-l"]).arg(path).output();
    }
    let _ = Command::new("chattr")
        .args(["-R", "-f", "-i"])
        .arg(scene.rootfs.join("etc"))
        .output();
}
