//! One image for each known vulnerability of NVIDIA's container toolkit, exploiting the same mechanism.
//!
//! Sources: the CVE records; `docs/security.md` explains each.

use std::fs;
use std::path::Path;

use super::image::{Image, Outcome, Scene};

pub(crate) const CVES: &[Image] = &[
    Image {
        name: "compat-leads-out",
        cve: "CVE-2024-0132",
        // Libraries of the image's compat directory were mounted beside the driver's, from
        // where a link of the image said they are.
        make: |scene| {
            scene.link("usr/local/cuda/compat/libcuda.so.999.1", "/");
            scene.link(
                "usr/local/cuda/compat/libnvidia-nvvm.so.999.1",
                &scene.canary,
            );
            scene.link(
                "usr/local/cuda/compat/libnvidia-ptxjitcompiler.so.999.1",
                Scene::far_up(&scene.canary.join("secret")),
            );
        },
        env: &[("CUDA_VERSION", "13.9"), ("NVIDIA_DISABLE_REQUIRE", "1")],
        config: None,
        outcome: Outcome::Starts,
    },
    Image {
        name: "compat-directory-leads-out",
        cve: "CVE-2025-23359",
        // The fix of CVE-2024-0132 checked the file but not its parent directories.
        make: |scene| {
            fs::create_dir_all(scene.at("usr/local")).unwrap();
            scene.link(
                "usr/local/cuda/compat",
                Scene::far_up(&scene.canary.join("lib")),
            );
            scene.link("usr/local/cuda-13.9", "/proc/self/root");
        },
        env: &[("CUDA_VERSION", "13.9"), ("NVIDIA_DISABLE_REQUIRE", "1")],
        config: None,
        outcome: Outcome::Starts,
    },
    Image {
        name: "mount-points-on-the-host",
        cve: "CVE-2024-0133",
        // Mount points were made where the image's links led: empty files on the host.
        make: |scene| {
            scene.link(&scene.libraries, scene.canary.join("deep/er"));
            scene.link("usr/bin", Scene::far_up(&scene.canary.join("deep")));
            scene.link("var/run", scene.canary.join("sub"));
        },
        env: &[],
        config: None,
        outcome: Outcome::StartsUnderRunc,
    },
    Image {
        name: "links-on-the-host",
        cve: "CVE-2024-0134",
        // Links were made outside the container's root.
        make: |scene| {
            scene.link("usr", scene.canary.join("sub"));
            scene.link("lib64", &scene.canary);
        },
        env: &[],
        config: None,
        outcome: Outcome::StartsUnderRunc,
    },
    Image {
        name: "ldconfig-of-the-image",
        cve: "CVE-2024-0135",
        // A program of the image opened a descriptor of the host's ldconfig and wrote to it.
        make: evil_ldconfig,
        env: &[],
        config: None,
        outcome: Outcome::Starts,
    },
    Image {
        name: "ldconfig-and-devices",
        cve: "CVE-2024-0136",
        // A program of the image ran with access to the host's devices. Every run checks whether the
        // container can open the GPU that it did not request.
        make: |scene| {
            evil_ldconfig(scene);
            scene.device("dev/nvidia0");
            scene.device("dev/nvidia1");
        },
        env: &[],
        config: None,
        outcome: Outcome::Starts,
    },
    Image {
        name: "ldconfig-in-the-hosts-network",
        cve: "CVE-2024-0137",
        // A program of the image ran in the host's network namespace if config.toml named ldconfig
        // without the `@` that means the host's. The config.toml of these runs does.
        make: |scene| {
            evil_ldconfig(scene);
            scene.evil_program("usr/bin/nvidia-smi");
            scene.evil_program("usr/bin/nvidia-modprobe");
        },
        env: &[],
        config: None,
        outcome: Outcome::Starts,
    },
    Image {
        name: "preload",
        cve: "CVE-2025-23266",
        // A hook ran with the image's environment, and with the image's root as working directory.
        make: |scene| scene.evil_library("evil.so"),
        env: &[
            ("LD_PRELOAD", "/proc/self/cwd/evil.so"),
            ("LD_AUDIT", "/proc/self/cwd/evil.so"),
            ("LD_LIBRARY_PATH", "/proc/self/cwd"),
        ],
        config: None,
        outcome: Outcome::Starts,
    },
    Image {
        name: "cache-is-a-link",
        cve: "CVE-2025-23267",
        // The loader's cache and the file beside it were written through a link.
        make: |scene| {
            scene.link("etc/ld.so.cache", scene.canary.join("ld.so.cache"));
            scene.link(
                "etc/ld.so.conf.d/00-gpu-container.conf",
                scene.canary.join("00-gpu-container.conf"),
            );
            scene.link("etc/ld.so.conf", scene.canary.join("secret"));
        },
        env: &[],
        config: None,
        outcome: Outcome::Starts,
    },
    Image {
        name: "modes-by-name",
        cve: "chmod hook",
        // A hook changed the modes of paths that it had joined as strings.
        make: |scene| {
            for (path, target) in [
                ("dev/nvidia1", "secret"),
                ("dev/nvidiactl", "program"),
                ("dev/dri", "deep"),
                ("etc/ld.so.conf.d", "deep/er"),
            ] {
                scene.link(path, scene.canary.join(target));
            }
        },
        env: &[],
        config: None,
        outcome: Outcome::Either,
    },
    Image {
        name: "every-part-a-link",
        cve: "CVE-2026-24260",
        // A race between check and use; the CVE record has no more detail. Here each component of
        // each path is a link; `race.rs` swaps them during a start.
        make: |scene| {
            let depth = Path::new(&scene.libraries).components().count();
            let mut path = String::new();
            for (n, part) in Path::new(&scene.libraries).components().enumerate() {
                let real = format!("real{n}");
                fs::create_dir_all(scene.at(&format!("{path}{real}/x"))).unwrap();
                let name = part.as_os_str().to_str().unwrap();
                scene.link(&format!("{path}{name}"), &real);
                path = format!("{path}{real}/");
            }
            assert!(depth > 0);
            fs::rename(scene.at("etc"), scene.at("real-etc")).unwrap();
            scene.link("etc", "/./../real-etc");
            scene.link("real-etc/ld.so.cache", scene.canary.join("secret"));
        },
        env: &[],
        config: None,
        outcome: Outcome::Starts,
    },
];

fn evil_ldconfig(scene: &Scene) {
    for path in [
        "sbin/ldconfig",
        "sbin/ldconfig.real",
        "usr/sbin/ldconfig",
        "usr/bin/ldconfig",
    ] {
        scene.evil_program(path);
    }
}
