//! Which low-level runtime the shim becomes: for a new container the first of the list, for every other command the one
//! that has made the container, whatever the list, PATH and our files are by then. The runtimes are scripts that print
//! their name and arguments; a container is the files that a real one leaves.
#![allow(clippy::unwrap_used)]

mod place;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::geteuid;
use place::parts::PROGRAM;
use place::{StubbedBundle, text};
use proptest::prelude::*;
use serde_json::json;

/// Low-level runtimes, each with the file that it keeps of the container `c`.
const FAMILIES: [(&str, &str); 4] = [
    ("runc", "c/state.json"),
    ("crun", "c/status"),
    ("youki", "c/youki_config.json"),
    ("runsc", "c_sandbox:c.state"),
];

/// Commands on a container that is there, as engines and people write them.
const LINES: [&str; 20] = [
    "start c",
    "state c",
    "kill c 9",
    "kill --all c KILL",
    "delete c",
    "delete --force c",
    "exec --process /run/p.json --detach --pid-file /run/pid c",
    "exec --tty --user 0 -e A=b c sh -c true",
    "exec --flag-of-tomorrow value c sh",
    "ps --format json c",
    "ps -f json c",
    "update --resources - c",
    "update c --memory 7",
    "pause c",
    "resume c",
    "events --stats --interval 5s c",
    "checkpoint --image-path /tmp/i --work-path w c",
    "command-of-tomorrow c",
    "state -- c",
    "state --odd=x c",
];

/// Puts stand-ins of these names into `dir`, which is to be on PATH.
fn install(place: &StubbedBundle, dir: &str, names: &[&str]) {
    fs::create_dir_all(place.path(dir)).unwrap();
    for name in names {
        let script = format!("#!/bin/sh\necho {name} of {dir}: \"$@\"\n");
        place.program(&format!("{dir}/{name}"), &script);
    }
}

fn place() -> StubbedBundle {
    let place = StubbedBundle::new();
    place.write_config(&json!({}));
    place
}

fn list(place: &StubbedBundle, names: &[&str]) {
    place.policy_of("", &format!("runtimes = {names:?}"));
}

/// Makes the files that this runtime keeps of the container `c`.
fn made_by(place: &StubbedBundle, root: &str, family: &str) {
    let _ = fs::remove_dir_all(place.path(root));
    let (_, file) = FAMILIES.iter().find(|(name, _)| *name == family).unwrap();
    let file = place.path(root).join(file);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    // What is in it is not looked at.
    fs::write(file, b"\xff{").unwrap();
    if family == "youki" {
        fs::write(place.path(root).join("c/state.json"), "{}").unwrap();
    }
}

/// Runs the shim. One that hangs is ended.
fn shim(place: &StubbedBundle, name: &str, path: &[&str], args: &[OsString]) -> Output {
    let mut command = place.named(name);
    let dirs: Vec<PathBuf> = path.iter().map(|dir| place.path(dir)).collect();
    command
        .current_dir(place.dir.path())
        .env("PATH", std::env::join_paths(dirs).unwrap())
        .env_remove("XDG_RUNTIME_DIR")
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{args:?} hangs");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.wait_with_output().unwrap()
}

fn words(line: &str) -> Vec<OsString> {
    line.split(' ').map(OsString::from).collect()
}

/// A command on a container of `ROOT`.
fn on_root(place: &StubbedBundle, line: &str) -> Vec<OsString> {
    let mut all = words("--systemd-cgroup --log-format json --root");
    all.push(place.path("root").into());
    all.extend(words(line));
    all
}

#[track_caller]
fn assert_by(place: &StubbedBundle, path: &[&str], line: &str, expected: &str) {
    let out = shim(place, "gpu-container-runtime", path, &on_root(place, line));
    let said = text(&out);
    let wanted = format!("{expected}: --systemd-cgroup");
    assert!(said.starts_with(&wanted), "{line}: {wanted}, not {said}");
    assert!(said.ends_with(&format!("{line}\n")), "{line}: {said}");
}

#[test]
fn every_command_goes_to_the_runtime_that_made_the_container() {
    let place = place();
    install(&place, "path", &["runc", "crun", "youki", "runsc"]);
    for (family, _) in FAMILIES {
        made_by(&place, "root", family);
        for first in FAMILIES {
            list(&place, &[first.0, "runc", "crun"]);
            for line in LINES {
                assert_by(&place, &["path"], line, &format!("{family} of path"));
            }
            // For a new container, and for what is about none, the list counts.
            for line in [
                "create --bundle bundle new",
                "list -f json",
                "features",
                "state other",
            ] {
                assert_by(&place, &["path"], line, &format!("{} of path", first.0));
            }
        }
    }
}

#[test]
fn neither_the_programs_name_nor_a_broken_file_of_ours_changes_it() {
    let place = place();
    install(&place, "path", &["runc", "crun"]);
    let broken: [&[u8]; 5] = [
        b"{[=",
        b"\xff\0",
        b"",
        b"nvidia-container-runtime = 1",
        b"[nvidia-container-runtime]\nruntimes = [\"crun\"]\n= 1",
    ];
    for (family, other) in [("runc", "crun"), ("crun", "runc")] {
        made_by(&place, "root", family);
        list(&place, &[other]);
        let name = format!("nvidia-container-runtime-{other}");
        let out = shim(&place, &name, &["path"], &on_root(&place, "kill c 9"));
        assert!(
            text(&out).starts_with(&format!("{family} of path")),
            "{}",
            text(&out)
        );
        for content in broken {
            fs::write(place.path("config.toml"), content).unwrap();
            fs::write(place.path("inventory.json"), content).unwrap();
            for line in LINES {
                assert_by(&place, &["path"], line, &format!("{family} of path"));
            }
        }
        fs::remove_file(place.path("config.toml")).unwrap();
        fs::remove_file(place.path("inventory.json")).unwrap();
        assert_by(
            &place,
            &["path"],
            "delete --force c",
            &format!("{family} of path"),
        );
        // No list names anything that is here.
        list(&place, &["/nowhere/runc", "none"]);
        assert_by(&place, &["path"], "exec c sh", &format!("{family} of path"));
    }
}

#[test]
fn without_a_root_each_runtime_has_its_own() {
    let place = place();
    install(&place, "path", &["runc", "crun", "youki", "runsc"]);
    for (family, _) in FAMILIES {
        let first = if family == "crun" { "runc" } else { "crun" };
        list(&place, &[first]);
        let _ = fs::remove_dir_all(place.path("users"));
        made_by(&place, &format!("users/{family}"), family);
        // By a copy, since another user may not reach the one that was built.
        let program = place.path("gpu-container-runtime");
        let _ = fs::remove_file(&program);
        let copied = Command::new("cp").arg(PROGRAM).arg(&program).status();
        assert!(copied.unwrap().success());
        let opened = Command::new("chmod")
            .args(["-R", "a+rX"])
            .arg(place.dir.path())
            .status();
        assert!(opened.unwrap().success());
        let mut command = Command::new(program);
        command
            .env("NVIDIA_CTK_CONFIG_FILE_PATH", place.path("config.toml"))
            .env("PATH", place.path("path"))
            .env("XDG_RUNTIME_DIR", place.path("users"))
            .args(["kill", "c", "9"]);
        // For root, runc and youki are in /run whatever the variable says.
        if geteuid().is_root() && matches!(family, "runc" | "youki") {
            let out = command.output().unwrap();
            assert_eq!(
                text(&out),
                format!("{first} of path: kill c 9\n"),
                "{family}"
            );
            command.uid(65534);
        }
        let out = command.output().unwrap();
        assert_eq!(text(&out), format!("{family} of path: kill c 9\n"));
    }
}

#[test]
fn a_runtime_that_is_gone_is_named_at_once_with_what_helps() {
    let place = place();
    install(&place, "path", &["runc", "crun", "runsc"]);
    list(&place, &["runc", "crun", "runsc"]);
    made_by(&place, "root", "youki");
    for line in LINES {
        let _ = fs::remove_file(place.path("log.json"));
        let mut args = words("--log");
        args.push(place.path("log.json").into());
        args.extend(on_root(&place, line));
        let out = shim(&place, "gpu-container-runtime", &["path"], &args);
        assert_eq!(out.status.code(), Some(1), "{line}");
        for said in [text(&out), place.log()] {
            for part in [
                "container c was made by youki",
                "c/youki_config.json",
                "install youki again",
                "config.toml",
            ] {
                assert!(said.contains(part), "{line}: {part:?} is not in {said}");
            }
            assert!(!said.contains(" of path:"), "{line}: {said}");
        }
    }
    // What the message says helps, at any place of the list.
    install(&place, "opt", &["youki"]);
    let youki = place.path("opt/youki");
    list(&place, &["runc", youki.to_str().unwrap()]);
    assert_by(&place, &["path"], "kill c 9", "youki of opt");
    install(&place, "path", &["youki"]);
    list(&place, &["runc"]);
    assert_by(&place, &["path"], "kill c 9", "youki of path");
}

#[test]
fn a_program_under_the_name_of_another_runtime_is_not_taken_for_it() {
    let place = place();
    install(&place, "real", &["runc", "crun", "youki"]);
    fs::create_dir(place.path("path")).unwrap();
    std::os::unix::fs::symlink(place.path("real/crun"), place.path("path/runc")).unwrap();
    list(&place, &["runc"]);
    // The link is crun, and it is the first on PATH.
    made_by(&place, "root", "crun");
    assert_by(&place, &["path", "real"], "kill c 9", "crun of real");
    made_by(&place, "root", "runc");
    assert_by(&place, &["path", "real"], "kill c 9", "runc of real");
    // A site's wrapper is used where nothing else fits.
    place.program("real/wrapper", "#!/bin/sh\necho wrapper of real: \"$@\"\n");
    let wrapper = place.path("real/wrapper");
    list(&place, &[wrapper.to_str().unwrap(), "crun"]);
    made_by(&place, "root", "youki");
    fs::remove_file(place.path("real/youki")).unwrap();
    assert_by(&place, &["real"], "kill c 9", "wrapper of real");
    install(&place, "real", &["youki"]);
    assert_by(&place, &["real"], "kill c 9", "youki of real");
    // What nobody may execute is no program.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(place.path("real/youki"), mode).unwrap();
    assert_by(&place, &["real"], "kill c 9", "wrapper of real");
}

#[test]
fn hostile_ids_go_to_the_first_of_the_list() {
    let place = place();
    install(&place, "path", &["runc", "crun"]);
    list(&place, &["crun"]);
    // Beside the container's directory, and in it, so that `..` and `.` would lead to it.
    made_by(&place, "root/deep", "runc");
    for dir in ["", "deep"] {
        fs::write(place.path("root").join(dir).join("state.json"), "{}").unwrap();
    }
    let long = [b'a'; 4096];
    let ids: [&[u8]; 10] = [
        b"..",
        b".",
        b"/",
        b"deep/c",
        b"../root/deep",
        b"",
        b"\xff\xfe",
        b"c\n",
        b"-",
        &long,
    ];
    for id in ids {
        let mut args = words("--root");
        args.push(place.path("root/deep").into());
        args.push("delete".into());
        args.push(OsStr::from_bytes(id).into());
        let out = shim(&place, "gpu-container-runtime", &["path"], &args);
        assert!(
            text(&out).starts_with("crun of path: --root"),
            "{id:?}: {}",
            text(&out)
        );
    }
    // A root that is no directory, or cannot be looked at, tells nothing.
    for root in ["/dev/null", "/proc/self/mem", "/nowhere", "relative"] {
        let args = [
            OsString::from("--root"),
            root.into(),
            "state".into(),
            "c".into(),
        ];
        let out = shim(&place, "gpu-container-runtime", &["path"], &args);
        assert!(
            text(&out).starts_with("crun of path: --root"),
            "{root}: {}",
            text(&out)
        );
    }
}

/// What is installed, and what the list says.
#[derive(Clone, Debug)]
struct Moment {
    /// The runtimes in each of two directories on PATH.
    there: [Vec<&'static str>; 2],
    list: Vec<&'static str>,
}

fn moments() -> impl Strategy<Value = Moment> {
    let names = || FAMILIES.map(|(name, _)| name).to_vec();
    let there = || proptest::sample::subsequence(names(), 0..=4);
    let more = [names(), vec!["none", "/nowhere/runc"]].concat();
    let list = proptest::collection::vec(proptest::sample::select(more), 1..4);
    ([there(), there()], list).prop_map(|(there, list)| Moment { there, list })
}

impl Moment {
    fn begins(&self, place: &StubbedBundle) {
        for (dir, names) in ["one", "two"].iter().zip(&self.there) {
            let _ = fs::remove_dir_all(place.path(dir));
            install(place, dir, names);
        }
        list(place, &self.list);
    }

    /// The directory of the stand-in of this name.
    fn dir_of(&self, name: &str) -> Option<&'static str> {
        let has = |n: usize| self.there[n].contains(&name);
        has(0).then_some("one").or(has(1).then_some("two"))
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// The runtime of a container never changes while it lives.
    #[test]
    fn whatever_changes_the_runtime_of_a_container_stays(
        made in moments(),
        then in proptest::collection::vec((moments(), proptest::sample::select(LINES.to_vec())), 1..4),
    ) {
        let place = place();
        made.begins(&place);
        let out = shim(&place, "gpu-container-runtime", &["one", "two"], &on_root(&place, "create --bundle bundle new"));
        let first = made.list.iter().find(|name| made.dir_of(name).is_some());
        // Without a stand-in of the list, one of this machine's or none may have been chosen.
        let Some(family) = first else { return Ok(()) };
        let is_machines = |name: &&str| made.dir_of(name).is_none() && ["runc", "crun"].contains(name);
        prop_assume!(!made.list.iter().any(is_machines));
        prop_assert!(text(&out).starts_with(&format!("{family} of ")), "{}", text(&out));
        for (moment, line) in then {
            moment.begins(&place);
            // Each time anew, since one of this machine's may have deleted it.
            made_by(&place, "root", family);
            let out = shim(&place, "gpu-container-runtime", &["one", "two"], &on_root(&place, line));
            let said = text(&out);
            if let Some(dir) = moment.dir_of(family) {
                prop_assert!(said.starts_with(&format!("{family} of {dir}:")), "{moment:?} {line}: {said}");
            } else {
                // Not here, or this machine's own, which knows no such container: an error, and no other runtime.
                let is_machines = matches!(*family, "runc" | "crun");
                prop_assert!(!out.status.success() || is_machines, "{moment:?} {line}: {said}");
                prop_assert!(!said.contains(" of one:") && !said.contains(" of two:"), "{said}");
            }
        }
    }
}
