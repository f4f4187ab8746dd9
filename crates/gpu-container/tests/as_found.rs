//! What a program of ours was started with is what the runtime, and the container, find: signals,
//! limits, standard descriptors. And how it ends where a file may get no longer or memory runs out.
//! With a real runc; needs root, runc and a static busybox, says so and passes where one is missing.
#![allow(clippy::unwrap_used)]

mod bundle;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use bundle::{Below, Place, Way, can_run, make_nodes, text};
use serde_json::json;

const PROGRAM: &str = env!("CARGO_BIN_EXE_gpu-container");

/// How engines, service managers and shells leave a program they start.
const FOUND: [(&str, &str); 9] = [
    ("as usual", ""),
    ("SIGPIPE ignored", "trap '' PIPE"),
    ("SIGXFSZ ignored", "trap '' XFSZ"),
    ("all ignored", "trap '' PIPE XFSZ HUP INT TERM USR1 USR2"),
    (
        "limits",
        "ulimit -n 2048; ulimit -f 200000; ulimit -u 4000; ulimit -c 0",
    ),
    ("no standard input", "exec <&-"),
    ("no standard output", "exec >&-"),
    ("no standard error", "exec 2>&-"),
    ("none of the three", "exec <&- >&- 2>&-"),
];

/// What a process is found with, without what is different in each.
const TELL: &str = "busybox grep -E '^(Sig(Ign|Blk|Pnd)|ShdPnd|NoNewPrivs|Seccomp)' /proc/self/status; \
    busybox cat /proc/self/limits";

/// Runs it where it is found so; through perl where signals are to be blocked.
fn found(how: &str, command: &Command) -> Output {
    let mut words = vec![command.get_program().to_owned()];
    words.extend(command.get_args().map(ToOwned::to_owned));
    Command::new("sh")
        .args(["-c", &format!("{how}\nexec \"$@\""), "sh"])
        .args(&words)
        .envs(command.get_envs().filter_map(|(k, v)| Some((k, v?))))
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn signals_and_limits_reach_the_container_as_found() {
    if !can_run() {
        return;
    }
    let place = Place::new("as-found");
    for (what, how) in FOUND {
        let script = format!("exec >/tmp/told 2>&1; {TELL}");
        for visible in ["void", "0"] {
            let told = |before: &[&str]| {
                place.make_config(visible, &script, |_| {});
                let _ = fs::remove_file(place.image("tmp/told"));
                let out = found(how, &place.command(&[], Below::Runc, before));
                let told = fs::read_to_string(place.image("tmp/told"));
                told.unwrap_or_else(|e| panic!("{what}: {e}: {}", text(&out)))
            };
            let plain = told(&[]);
            assert!(
                plain.contains("SigIgn") && plain.contains("Max open files"),
                "{plain}"
            );
            assert_eq!(told(&[PROGRAM, "runtime"]), plain, "{what}, {visible}");
        }
    }
}

/// runc changes some of it itself; another runtime may not.
#[test]
fn all_that_was_found_reaches_the_runtime() {
    if !can_run() {
        return;
    }
    let place = Place::new("reaches");
    let told = place.path("told");
    let tell = format!(
        "busybox grep -E '^(Sig(Ign|Blk|Pnd)|ShdPnd|Cap|NoNew|Sec)' /proc/$$/status >{told}; \
         busybox cat /proc/$$/limits >>{told}; busybox ls /proc/$$/fd >>{told}; busybox tr '\\0' '\\n' </proc/$$/environ >>{told}",
        told = told.display()
    );
    let config = fs::read_to_string(place.path("config.toml")).unwrap();
    // A program and no script: a shell opens its script, and changes signals itself.
    let config = config.replace("[\"runc\"]", "[\"/bin/busybox\"]");
    fs::write(place.path("config.toml"), config).unwrap();
    for (what, how) in FOUND {
        let mut tells = Vec::new();
        for before in [&[][..], &[PROGRAM, "runtime"]] {
            let mut words: Vec<&str> = before.to_vec();
            if before.is_empty() {
                words.push("/bin/busybox");
            }
            words.extend(["sh", "-c", &tell]);
            let mut command = Command::new(words[0]);
            command.args(&words[1..]);
            command.env("NVIDIA_CTK_CONFIG_FILE_PATH", place.path("config.toml"));
            let _ = fs::remove_file(&told);
            let out = found(how, &command);
            let text = fs::read_to_string(&told);
            tells.push(text.unwrap_or_else(|e| panic!("{what}: {e}: {out:?}")));
        }
        assert_eq!(tells[1], tells[0], "{what}");
    }
}

/// A signal that is blocked stays so, and none is blocked that was not.
#[test]
fn blocked_signals_stay_blocked() {
    use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};

    if !can_run() {
        return;
    }
    let place = Place::new("blocked");
    let script = format!("exec >/tmp/told 2>&1; {TELL}");
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGUSR1);
    blocked.add(Signal::SIGXFSZ);
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&blocked), Some(&mut before)).unwrap();
    let told = |by: &[&str]| {
        place.make_config("0", &script, |_| {});
        let _ = fs::remove_file(place.image("tmp/told"));
        let out = place.command(&[], Below::Runc, by).output().unwrap();
        fs::read_to_string(place.image("tmp/told"))
            .unwrap_or_else(|e| panic!("{e}: {}", text(&out)))
    };
    let (plain, ours) = (told(&[]), told(&[PROGRAM, "runtime"]));
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None).unwrap();
    assert_eq!(ours, plain);
}

fn ends_with_a_line(out: &Output, what: &str) {
    let said = text(out);
    assert_eq!(out.status.signal(), None, "{what}: {said}");
    for word in [
        "panicked",
        "backtrace",
        "RUST_BACKTRACE",
        "memory allocation of",
    ] {
        assert!(!said.contains(word), "{what}: {said}");
    }
    if !out.status.success() {
        // One more where a log could not be written.
        let lines = said
            .lines()
            .filter(|l| !l.contains("dropped: nobody read them"));
        assert_eq!(lines.count(), 1, "{what}: {said}");
    }
}

#[test]
fn a_file_that_may_get_no_longer_is_a_full_disk() {
    if !can_run() {
        return;
    }
    let place = Place::new("limited");
    make_nodes(&place);
    let config = fs::read_to_string(place.path("config.toml")).unwrap();
    let debug = place.path("debug").display().to_string();
    let config = config.replace(
        "[nvidia-container-runtime]\n",
        &format!("debug = \"{debug}\"\n[nvidia-container-runtime]\ndebug = \"{debug}\"\nlog-level = \"debug\"\n"),
    );
    fs::write(place.path("config.toml"), config).unwrap();
    // In blocks of 512 bytes: nothing, half of config.json.
    for blocks in [0, 1, 4] {
        for visible in ["0", "void", "9"] {
            let what = format!("{blocks} blocks, {visible}");
            place.make_config(visible, "true", |_| {});
            let before = fs::read(place.path("bundle/config.json")).unwrap();
            let how = format!("ulimit -f {blocks}");
            let config = fs::read_to_string(place.path("config.toml")).unwrap();
            fs::write(
                place.path("config.toml"),
                config.replace("[\"runc\"]", "[\"/bin/true\"]"),
            )
            .unwrap();
            let out = found(
                &how,
                &place.command(&[], Below::Runc, &[PROGRAM, "runtime"]),
            );
            ends_with_a_line(&out, &what);
            if visible == "0" {
                assert!(
                    text(&out).contains("File too large"),
                    "{what}: {}",
                    text(&out)
                );
                assert_eq!(
                    fs::read(place.path("bundle/config.json")).unwrap(),
                    before,
                    "{what}"
                );
            }
            let left = fs::read_dir(place.path("bundle")).unwrap().count();
            assert_eq!(left, 2, "{what}: config.json and rootfs");
            fs::write(place.path("config.toml"), config).unwrap();

            // The hook limits itself, to no more than this.
            place.add_prestart_hook(Below::Runc);
            let hook = place.path("limited-hook");
            let script = format!(
                "#!/bin/sh\nulimit -f {blocks}\nexec {} \"$@\"\n",
                place.path("nvidia-container-runtime-hook").display()
            );
            fs::write(&hook, script).unwrap();
            fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .unwrap();
            place.edit_config(|config| config["hooks"]["prestart"][0]["path"] = json!(hook));
            let out = text(&place.start_plain(Below::Runc));
            assert!(!out.contains("signal"), "{what}: {out}");
        }
    }
}

/// A cache that may get no longer, of which the kernel tells by a signal too, is a full disk's: it is covered by one
/// that fits, and where that cannot be written either the container starts with what it has.
#[test]
fn a_cache_that_may_get_no_longer_is_covered_or_told() {
    if !can_run() || !skips::has(&[skips::Need::Strace]) {
        return;
    }
    let place = Place::new("cover");
    make_nodes(&place);
    for (when, wanted) in [("1", "glibc-ld.so.cache"), ("1+", "the image's")] {
        // -D: the hook's parent is the runtime, as ever.
        place.inject(&format!(
            "-D -e trace=write -e inject=write:error=EFBIG:signal=SIGXFSZ:when={when}"
        ));
        place.make_config("0", "head -c 17 /etc/ld.so.cache; echo started", |_| {});
        fs::write(place.image("etc/ld.so.cache"), "the image's").unwrap();
        let out = place.start_by(Way::Cdi, Below::Runc);
        let said = text(&out);
        let traced = fs::read_to_string(place.path("strace.log")).unwrap();
        assert!(
            said.contains("started") && said.contains(wanted),
            "{when}: {said}{traced}"
        );
        assert!(traced.contains("SIGXFSZ"), "{traced}");
    }
}

#[test]
fn no_memory_is_a_line() {
    if !can_run() {
        return;
    }
    let place = Place::new("memory");
    let config = fs::read_to_string(place.path("config.toml")).unwrap();
    fs::write(
        place.path("config.toml"),
        config.replace("[\"runc\"]", "[\"/bin/true\"]"),
    )
    .unwrap();
    let long = "0,".repeat(5 << 20);
    place.make_config(&long, "true", |_| {});
    let state = json!({"bundle": place.path("bundle"), "pid": 1, "id": "x"}).to_string();
    fs::write(place.path("state.json"), state).unwrap();
    let mut failed = 0;
    // In KiB, from what the program itself takes on.
    for limit in [12_000, 16_000, 24_000, 40_000, 100_000] {
        let how = format!("ulimit -v {limit}");
        let out = found(
            &how,
            &place.command(&[], Below::Runc, &[PROGRAM, "runtime"]),
        );
        // Where the program cannot even be loaded, its loader says so.
        if text(&out).contains("out of memory") {
            failed += 1;
        }
        ends_with_a_line(&out, &how);
        let mut hook = Command::new(place.hook("nvidia-container-runtime-hook"));
        hook.arg("-config")
            .arg(place.path("config.toml"))
            .arg("prestart");
        let how = format!("{how}; exec <{}", place.path("state.json").display());
        ends_with_a_line(&found(&how, &hook), &how);
    }
    assert!(failed > 0, "no limit was too low");
}

#[test]
fn a_pipe_that_nobody_has_any_more_is_no_end() {
    if !can_run() {
        return;
    }
    let place = Place::new("broken");
    place.make_config("0", "echo started >/tmp/told", |config| {
        let env = config["process"]["env"].as_array_mut().unwrap();
        env.push(json!("CUDA_VERSION=x"));
    });
    for how in ["exec >&- 2>&-", "exec 2>&1 >/dev/null | true; sleep 0.1"] {
        let _ = fs::remove_file(place.image("tmp/told"));
        found(how, &place.command(&[], Below::Runc, &[PROGRAM, "runtime"]));
        assert!(Path::new(&place.image("tmp/told")).exists(), "{how}");
        place.make_config("0", "echo started >/tmp/told", |_| {});
    }
    let (from, to) = std::io::pipe().unwrap();
    drop(from);
    let mut command = Command::new(PROGRAM);
    command
        .args(["cli", "list"])
        .stdout(to.try_clone().unwrap())
        .stderr(to);
    assert_eq!(command.status().unwrap().signal(), None);
}
