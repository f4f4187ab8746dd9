//! Images that change while their container starts: their directories, links and files are exchanged
//! in tight loops, as a process with access to the root file system can do. Whether a start succeeds
//! or not, nothing outside the root file system changes.
//!
//! `RACE_STARTS=N` sets the number of starts for each way; the default is small.
#![allow(clippy::unwrap_used)]

mod bundle;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bundle::canary::{self, SECRET};
use bundle::{Below, RuncBundle, WAYS, Way, can_run, make_nodes, text};
use nix::dir::Dir;
use nix::fcntl::{RenameFlags, renameat2};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};
use serde_json::json;

/// The directory and the two names in it that are exchanged.
const SWAPS: [(&str, &str, &str); 6] = [
    ("usr", "lib", "out"),
    ("usr", "lib", "up"),
    ("", "etc", "etc-out"),
    ("etc", "ld.so.cache", "evil"),
    ("usr/lib", "libcuda.so.1.2.3", "evil"),
    ("usr/local/cuda", "compat", "out"),
];

/// Rounds of starts until a temporary file was replaced.
const MAX_ROUNDS: usize = 5;

/// The system calls with which a hook accesses the image; they are slowed down.
const SLOWED: &str = "openat,openat2,mkdirat,symlinkat,renameat,unlinkat,fchmod,fchmodat,chmod,move_mount,mount,umount2";

fn make(place: &RuncBundle) {
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

/// Replaces temporary files by links to the canary as soon as they appear; returns how many.
fn replace_temporary_files(place: &RuncBundle, etc: &File) -> usize {
    let mut replaced = 0;
    let mut entries = Dir::from_fd(etc.try_clone().unwrap().into()).unwrap();
    for name in entries.iter().flatten().map(|e| e.file_name().to_owned()) {
        if name.to_bytes().starts_with(b".ld.so.cache.") {
            let name = name.as_c_str();
            // It may be gone by now.
            if unlinkat(etc, name, UnlinkatFlags::NoRemoveDir).is_ok() {
                let linked = symlinkat(&place.path("canary/program"), etc, name);
                replaced += usize::from(linked.is_ok());
            }
        }
    }
    replaced
}

/// Runs `starts` while the image changes; returns the numbers of exchanges and of replacements.
fn while_it_changes(place: &RuncBundle, starts: impl FnOnce()) -> (usize, usize) {
    let over = AtomicBool::new(false);
    let (swapped, replaced) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for (dir, one, other) in SWAPS {
            // By descriptor, since this process sees the host and must not leave the image.
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
        let (over, replaced) = (&over, &replaced);
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                replaced.fetch_add(replace_temporary_files(place, &etc), Ordering::Relaxed);
            }
        });
        // After a panic the threads would run on, and the scope would wait for them.
        let done = catch_unwind(AssertUnwindSafe(starts));
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = done {
            resume_unwind(panic);
        }
    });
    (swapped.into_inner(), replaced.into_inner())
}

/// The container's script: it searches for the secret, and reports if it could not finish.
fn script() -> String {
    format!(
        "echo STARTED; found=$(busybox timeout 60 busybox find /usr /etc -type f -size -64 -exec busybox grep -l {SECRET} {{}} +); \
         [ $? -lt 124 ] || echo UNFINISHED; [ -z \"$found\" ] || echo LEAKED"
    )
}

/// The same race with a flawed hook: it sets the mode of its temporary file by name, after checking
/// that the file is not a link. The race has to be lost sometimes, or the test proves nothing.
#[test]
fn a_hook_that_changes_modes_by_name_loses_the_race() {
    if !can_run() {
        return;
    }
    let place = RuncBundle::new("race-control");
    canary::make(&place.path("canary"));
    make(&place);
    let hook = place.path("naive-hook");
    // The hook may change the canary, but nothing else on this machine.
    let text = format!(
        "[ -n \"$FENCED\" ] || FENCED=1 exec unshare --mount --propagation private sh \"$0\"
        mount --bind {dir} {dir} && mount -o remount,bind,ro / && cd {etc} || exit 1
        for n in $(seq 200); do
            [ \"$(stat -c %a {program})\" != 640 ] || break
            : >.ld.so.cache.$n
            [ -L .ld.so.cache.$n ] || {{ sleep 0.003; chmod 0640 .ld.so.cache.$n; }}
            rm -f .ld.so.cache.$n
        done
        exit 0\n",
        dir = place.path("").display(),
        etc = place.image("etc").display(),
        program = place.path("canary/program").display(),
    );
    fs::write(&hook, text).unwrap();
    place.make_config("void", &script(), |config| {
        config["hooks"] = json!({"prestart": [{
            "path": "/bin/sh",
            "args": ["sh", hook],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
        }]});
    });
    let before = canary::look(&place);
    let mut harm = Vec::new();
    let (swapped, replaced) = while_it_changes(&place, || {
        for _ in 0..10 {
            place.start_plain(Below::Runc);
            harm = canary::differences(&before, &canary::look(&place));
            if harm.iter().any(|line| line.contains("/canary/program: ")) {
                break;
            }
        }
    });
    println!("the control's changes: {swapped}, replacements: {replaced}");
    assert!(
        harm.iter().any(|line| line.contains("mode 100640")),
        "{swapped} changes, {replaced} replacements, and no harm: {harm:#?}"
    );
}

#[test]
fn images_that_change_while_they_start_change_nothing_on_the_host() {
    if !can_run() {
        return;
    }
    let starts: usize =
        std::env::var("RACE_STARTS").map_or(8, |n| n.parse().expect("RACE_STARTS is a number"));
    assert!(starts > 0);
    let script = script();
    let (mut total, mut started, mut by_runc, mut failures) = (0, 0, 0, Vec::new());
    let (mut swapped, mut replaced) = (0, 0);
    // Temporary files live so short that a round may hit none of them: then there is another one.
    let mut rounds = 0;
    while rounds == 0 || (replaced == 0 && failures.is_empty() && rounds < MAX_ROUNDS) {
        rounds += 1;
        for way in WAYS {
            let place = RuncBundle::new(&format!("race-{way:?}"));
            canary::make(&place.path("canary"));
            make_nodes(&place);
            make(&place);
            let mut before = canary::look(&place);
            let mut started_so = 0;
            let changes = while_it_changes(&place, || {
                for n in 0..starts {
                    // Lengthens the time between check and use, wherever there is any.
                    if n == starts / 2 {
                        place.slow_down(SLOWED, 3000);
                    }
                    place.make_config("1", &script, |_| {});
                    let out = text(&place.start_by(way, Below::Runc));
                    total += 1;
                    started_so += usize::from(out.contains("STARTED"));
                    for (word, what) in [
                        ("LEAKED", "the container could read the secret"),
                        ("UNFINISHED", "what it can read was not looked through"),
                    ] {
                        if out.contains(word) {
                            failures.push(format!("{way:?}: {what}: {out}"));
                        }
                    }
                    // In the other ways we mount, so all mount points are made by us.
                    if way == Way::Cdi {
                        by_runc += canary::forgive_runc(&place, &mut before);
                    }
                    failures.extend(canary::differences(&before, &canary::look(&place)));
                    if !failures.is_empty() {
                        failures.push(out);
                        break;
                    }
                }
            });
            // strace writes this, once for each hook that is slowed down.
            let slowed = fs::read_to_string(place.path("strace.log"));
            assert!(
                slowed.is_ok_and(|log| log.contains("(DELAYED)")),
                "{way:?}: no hook was slowed down"
            );
            println!(
                "{way:?}: started: {started_so}, changes: {}, replacements: {}",
                changes.0, changes.1
            );
            assert!(
                changes.0 > starts,
                "{way:?}: only {} changes meanwhile",
                changes.0
            );
            started += started_so;
            swapped += changes.0;
            replaced += changes.1;
        }
    }
    if by_runc > 0 {
        println!("empty files made by this runc itself (CVE-2024-45310): {by_runc}");
    }
    println!(
        "starts: {total}, started: {started}, changes meanwhile: {swapped}, replaced temporary files: {replaced}, escapes: {}",
        usize::from(!failures.is_empty())
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(total, rounds * starts * WAYS.len());
    // Without a successful start or without replaced files the test would prove nothing.
    assert!(started > 0, "no container of {total} was started");
    assert!(
        replaced > 0,
        "no temporary file was replaced: are they still called .ld.so.cache.*?"
    );
}
