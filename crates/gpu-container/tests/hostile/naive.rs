//! A hook with the flaws that NVIDIA's had before they were fixed: it does by path, as root on the
//! host, what ours does by descriptor. Each image has to do harm with it; an image that is harmless
//! by mistake would show nothing about our hook either.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::bundle::{Below, Way, canary, text};
use super::image::{Image, Scene};
use super::{changed_by_runtime_alone, configure, harm, images, prepare};

/// The flaw of a naive hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// Mount points are made by following links of the image.
    MountPoints,
    /// Files of the image's compat directory are mounted without a check.
    Compat,
    /// A program of the image runs.
    Program,
    /// The hook runs with the image's environment, and with its root as working directory.
    Environment,
    /// The cache is written by its path.
    Cache,
    /// The cache's directory is resolved within the image, but the file is then opened by its path.
    CacheInDirectory,
    /// Modes are changed by path.
    Modes,
    /// Nodes are made by path.
    Nodes,
    /// Programs are searched for in directories that the image names.
    Path,
}

/// The flaw with which each image does harm. Images that are not listed here attack nothing; they
/// test how our hook handles unusual files.
const HARMS: &[(&str, Flaw)] = &[
    ("compat-leads-out", Flaw::Compat),
    ("compat-directory-leads-out", Flaw::Compat),
    ("mount-points-on-the-host", Flaw::MountPoints),
    ("links-on-the-host", Flaw::MountPoints),
    ("ldconfig-of-the-image", Flaw::Program),
    ("ldconfig-and-devices", Flaw::Program),
    ("ldconfig-in-the-hosts-network", Flaw::Program),
    ("preload", Flaw::Environment),
    ("cache-is-a-link", Flaw::Cache),
    ("modes-by-name", Flaw::Modes),
    ("every-part-a-link", Flaw::CacheInDirectory),
    ("etc-far-up", Flaw::Cache),
    ("libraries-far-up", Flaw::MountPoints),
    ("cache-with-a-second-name", Flaw::Cache),
    ("library-leads-out", Flaw::MountPoints),
    ("soname-leads-out", Flaw::MountPoints),
    ("dev-leads-out", Flaw::Nodes),
    ("run-leads-out", Flaw::MountPoints),
    ("environment", Flaw::Path),
];

fn script(flaw: Flaw, image: &Image, scene: &Scene) -> String {
    let place = scene.canary.parent().unwrap().display();
    let mut env = String::new();
    for (name, value) in image.env {
        let value = value.replace("{canary}", &scene.canary.display().to_string());
        let _ = write!(env, " {name}='{value}'");
    }
    let commands = match flaw {
        Flaw::MountPoints => {
            "for dir in \"$libs\" \"$root/var/run/nvidia-persistenced\"; do mkdir -p \"$dir\"; done
            for file in \"$libs\"/libcuda.so.$version \"$libs\"/libcuda.so.1 \"$root/var/run/nvidia-persistenced/socket\"; do
                echo naive >\"$file\"
            done"
                .to_owned()
        }
        Flaw::Compat => "for file in \"$root\"/usr/local/cuda/compat/*.so.*; do
                [ ! -f \"$file\" ] || cp -L \"$file\" \"$root/tmp/\"
            done"
            .to_owned(),
        Flaw::Program => "chroot \"$root\" /sbin/ldconfig".to_owned(),
        Flaw::Environment => {
            format!("cd \"$root\" && env{env} sh -c /bin/true")
        }
        Flaw::Cache => "echo naive >\"$root/etc/ld.so.cache\"".to_owned(),
        Flaw::CacheInDirectory => "dir=$(chroot \"$root\" /bin/busybox realpath /etc)
            echo naive >\"$root$dir/ld.so.cache\""
            .to_owned(),
        Flaw::Modes => "chmod 0777 \"$root\"/dev/nvidia* \"$root/dev/dri\" \"$root/etc/ld.so.conf.d\"".to_owned(),
        Flaw::Nodes => "mknod \"$root/dev/nvidia1\" c 195 1".to_owned(),
        Flaw::Path => {
            let path = image.env.iter().find(|(name, _)| *name == "PATH").unwrap().1;
            format!("cd \"$root\" && PATH='{path}' runc --version")
        }
    };
    // The hook may harm the canary, but nothing else on this machine.
    format!(
        "#!/bin/sh
        [ -n \"$FENCED\" ] || FENCED=1 exec unshare --mount --propagation private \"$0\"
        mount --bind {place} {place} && mount -o remount,bind,ro / || exit 1
        exec </dev/null
        root={root} libs={root}/{libraries} version={version}
        {commands}
        exit 0\n",
        root = scene.rootfs.display(),
        libraries = scene.libraries,
        version = scene.version,
    )
}

/// The harm that the image does with a hook that has the flaw.
fn harm_by(image: &Image, flaw: Flaw) -> (Vec<String>, String) {
    let (place, scene, before) = prepare(image, "naive");
    configure(&place, image, &scene, "void");
    let hook = place.path("naive-hook");
    fs::write(&hook, script(flaw, image, &scene)).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    place.edit_config(|config| {
        config["hooks"] = json!({"prestart": [{
            "path": "/bin/sh",
            "args": ["sh", hook],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
        }]});
    });
    let out = text(&place.start_plain(Below::Runc));
    let mut harm_done = harm(&place, &before, &canary::look(&place), &out, Below::Runc);
    images::clean_up(&scene);
    // Changes that runc makes without any hook do not count.
    let runtime_changes = changed_by_runtime_alone(image, Way::Prestart, Below::Runc);
    harm_done.retain(|line| {
        !runtime_changes
            .iter()
            .any(|path| line.contains(&format!("/{path}: ")))
    });
    (harm_done, out)
}

/// Images of both tables that do no harm although they should, one line each.
pub(super) fn harmless(tables: [&[Image]; 2]) -> Vec<String> {
    let all: Vec<&Image> = tables.into_iter().flatten().collect();
    for image in tables[0] {
        let has_control = HARMS.iter().any(|(name, _)| *name == image.name);
        assert!(
            has_control,
            "{}: no control says by what it harms",
            image.name
        );
    }
    let images = HARMS.iter().map(|(name, flaw)| {
        let image = all.iter().find(|i| i.name == *name);
        (
            image.unwrap_or_else(|| panic!("no image is called {name}")),
            *flaw,
        )
    });
    let mut harmless = Vec::new();
    // Starts run in parallel, since they are mostly waiting.
    std::thread::scope(|scope| {
        let tried: Vec<_> = images
            .map(|(image, flaw)| (image.name, flaw, scope.spawn(move || harm_by(image, flaw))))
            .collect();
        for (name, flaw, thread) in tried {
            let (found, out) = thread.join().unwrap();
            println!("{name} by {flaw:?}: {}", found.join("; "));
            if found.is_empty() {
                harmless.push(format!("{name} does no harm by {flaw:?}: {out}"));
            }
        }
    });
    harmless
}
