//! Images that change while their container starts: directories, links and files of theirs
//! change places in tight loops, as a process that shares their root file system can have them
//! do. Whatever becomes of each start, nothing beside the root file system changes.
//!
//! `RACE_STARTS=N` for so many by each way; a few unless told otherwise.
#![allow(clippy::unwrap_used)]

mod bundle;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bundle::canary::{self, SECRET};
use bundle::{Below, Place, WAYS, Way, can_run, make_nodes, text};
use nix::dir::Dir;
use nix::fcntl::{RenameFlags, renameat2};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};

/// In which directory what changes places with what.
const SWAPS: [(&str, &str, &str); 6] = [
    ("usr", "lib", "out"),
    ("usr", "lib", "up"),
    ("", "etc", "etc-out"),
    ("etc", "ld.so.cache", "evil"),
    ("usr/lib", "libcuda.so.1.2.3", "evil"),
    ("usr/local/cuda", "compat", "out"),
];

/// What a hook does with the image.
const SLOWED: &str = "openat,openat2,mkdirat,symlinkat,renameat,unlinkat,fchmod,fchmodat,chmod,move_mount,mount,umount2";

fn make(place: &Place) {
    let canary = place.path("canary");
    for dir in ["usr/lib", "usr/local/cuda/compat", "dev"] {
        fs::create_dir_all(place.image(dir)).unwrap();
    }
    let far = Path::new("../../../../../../../..").join(canary.strip_prefix("/").unwrap());
    for (link, target) in [
        ("usr/out", canary.join("lib")),
        ("usr/up", far.join("deep/er")),
        ("etc-out", canary.clone()),
        ("etc/evil", canary.join("secret")),
        ("usr/lib/evil", canary.join("lib/libcuda.so.1.2.3")),
        ("usr/local/cuda/out", far.join("lib")),
    ] {
        symlink(target, place.image(link)).unwrap();
    }
    fs::write(place.image("etc/ld.so.cache"), "").unwrap();
    fs::write(place.image("usr/lib/libcuda.so.1.2.3"), "").unwrap();
    fs::write(place.image("usr/local/cuda/compat/libcuda.so.999.1"), "").unwrap();
}

/// Puts links to the canary in the place of temporary files, as soon as they show.
fn reimagetemporaries(place: &Place, etc: &File) {
    let mut entries = Dir::from_fd(etc.try_clone().unwrap().into()).unwrap();
    for name in entries.iter().flatten().map(|e| e.file_name().to_owned()) {
        if name.to_bytes().starts_with(b".ld.so.cache.") {
            let name = name.as_c_str();
            let _ = unlinkat(etc, name, UnlinkatFlags::NoRemoveDir);
            let _ = symlinkat(&place.path("canary/program"), etc, name);
        }
    }
}

#[test]
fn images_that_change_while_they_start_change_nothing_on_the_host() {
    if !can_run() {
        return;
    }
    let starts: usize = std::env::var("RACE_STARTS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(8);
    let script = format!(
        "echo STARTED; busybox timeout 20 busybox find /usr /etc -type f -size -64 -exec busybox grep -l {SECRET} {{}} + && echo LEAKED"
    );
    let (mut total, mut started, mut by_runc, mut failures) = (0, 0, 0, Vec::new());
    let swapped = AtomicUsize::new(0);
    for way in WAYS {
        let place = Place::new(&format!("race-{way:?}"));
        canary::make(&place.path("canary"));
        make_nodes(&place);
        make(&place);
        let mut before = canary::look(&place);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for (dir, one, other) in SWAPS {
                // By descriptor: this process sees the host, and must stay in the image.
                let dir = File::open(place.image(dir)).unwrap();
                let (over, swapped) = (&over, &swapped);
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        let flag = RenameFlags::RENAME_EXCHANGE;
                        if renameat2(&dir, one, &dir, other, flag).is_ok() {
                            swapped.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            let etc = File::open(place.image("etc")).unwrap();
            let (image, until) = (&place, &over);
            scope.spawn(move || {
                while !until.load(Ordering::Relaxed) {
                    reimagetemporaries(image, &etc);
                }
            });
            for n in 0..starts {
                // With longer moments between a look and a use, for those that have any.
                if n == starts / 2 {
                    place.slow_down(SLOWED, 3000);
                }
                place.make_config("1", &script, |_| {});
                let out = text(&place.start_by(way, Below::Runc));
                total += 1;
                started += usize::from(out.contains("STARTED"));
                if out.contains("LEAKED") {
                    failures.push(format!(
                        "{way:?}: the container could read the secret: {out}"
                    ));
                }
                // On the other ways the mounts are ours, and so is all that is made for them.
                if way == Way::Cdi {
                    by_runc += canary::forgive_runc(&place, &mut before);
                }
                failures.extend(canary::differences(&before, &canary::look(&place)));
                if !failures.is_empty() {
                    failures.push(out);
                    break;
                }
            }
            over.store(true, Ordering::Relaxed);
        });
    }
    if by_runc > 0 {
        println!("empty files made by this runc itself (CVE-2024-45310): {by_runc}");
    }
    println!(
        "starts: {total}, started: {started}, changes meanwhile: {}, escapes: {}",
        swapped.into_inner(),
        usize::from(!failures.is_empty())
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
