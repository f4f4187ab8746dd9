//! A hook as the peer's were before their flaws were mended: it does by path, and as root on the
//! host, what ours does by descriptor. Each image has to do harm by it; one that does none by
//! mistake would show nothing about ours either.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::bundle::{Below, Way, canary, text};
use super::image::{Image, Scene};
use super::{configure, harm, images, prepare, without_us};

/// What the hook does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// Mount points are made where links of the image lead.
    MountPoints,
    /// Files of the image's compat directory are given to the container, whatever they are.
    Compat,
    /// A program of the image is run.
    Program,
    /// The hook has the image's environment, and its root as working directory.
    Environment,
    /// The cache is written by its path.
    Cache,
    /// The cache's directory is looked up within the image, and the file then opened by its path.
    CacheInDirectory,
    /// Modes are changed by path.
    Modes,
    /// Nodes are made by path.
    Nodes,
    /// Programs are looked for in the directories that the image names.
    Path,
}

/// By which flaw each image harms. Images of our own making that are not here try how ours bears
/// what is odd; they lead nowhere.
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
    // It may harm the canary, and nothing else of this machine.
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

/// What the image does to the host, or shows of it to the container, by way of such a hook.
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
    let mut found = harm(&place, &before, &canary::look(&place), &out, Below::Runc);
    images::clean_up(&scene);
    // What runc does to the host for that image without any hook is no harm of the hook's.
    let theirs = without_us(image, Way::Prestart, Below::Runc);
    found.retain(|line| {
        !theirs
            .iter()
            .any(|path| line.contains(&format!("/{path}: ")))
    });
    (found, out)
}

/// Images of both tables that do no harm although they should, a line each.
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
    // Most of a start is waiting.
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
