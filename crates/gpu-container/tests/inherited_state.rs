//! The shim passes signal dispositions, limits and standard descriptors on to the runtime and the
//! container unchanged; and it ends with a message if a file size limit is hit or memory runs out.
//! Needs root, runc and a static busybox; says so and passes if one is missing.
#![allow(clippy::unwrap_used)]

mod bundle;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use bundle::{Below, RuncBundle, Way, can_run, make_nodes, text};
use serde_json::json;

const PROGRAM: &str = env!("CARGO_BIN_EXE_gpu-container");

/// Process states in which engines, service managers and shells start a program: a name, and shell code that sets it up.
const START_STATES: [(&str, &str); 9] = [
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

/// Prints the state that a process was started with, without what differs in every process.
const PRINT_STATE: &str = "busybox grep -E '^(Sig(Ign|Blk|Pnd)|ShdPnd|NoNewPrivs|Seccomp)' /proc/self/status; \
    busybox cat /proc/self/limits";

/// Runs the command after the shell code `how`.
fn run_after(how: &str, command: &Command) -> Output {
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
fn signals_and_limits_reach_the_container_unchanged() {
    if !can_run() {
        return;
    }
    let place = RuncBundle::new("as-found");
    for (what, how) in START_STATES {
        let script = format!("exec >/tmp/told 2>&1; {PRINT_STATE}");
        for visible in ["void", "0"] {
            let report_after = |before: &[&str]| {
                place.make_config(visible, &script, |_| {});
                let _ = fs::remove_file(place.image("tmp/told"));
                let out = run_after(how, &place.command(&[], Below::Runc, before));
                let report = fs::read_to_string(place.image("tmp/told"));
                report.unwrap_or_else(|e| panic!("{what}: {e}: {}", text(&out)))
            };
            let plain = report_after(&[]);
            assert!(
                plain.contains("SigIgn") && plain.contains("Max open files"),
                "{plain}"
            );
            assert_eq!(
                report_after(&[PROGRAM, "runtime"]),
                plain,
                "{what}, {visible}"
            );
        }
    }
}

/// The low-level runtime is a script here, because runc itself changes some of the state.
#[test]
fn signals_limits_and_descriptors_reach_the_runtime_unchanged() {
    if !can_run() {
        return;
    }
    let place = RuncBundle::new("reaches");
    let report = place.path("told");
    let tell = format!(
        "busybox grep -E '^(Sig(Ign|Blk|Pnd)|ShdPnd|Cap|NoNew|Sec)' /proc/$$/status >{report}; \
         busybox cat /proc/$$/limits >>{report}; busybox ls /proc/$$/fd >>{report}; busybox tr '\\0' '\\n' </proc/$$/environ >>{report}",
        report = report.display()
    );
    let config = fs::read_to_string(place.path("config.toml")).unwrap();
    // A compiled program, not a script: a shell opens a descriptor and changes signals itself.
    let config = config.replace("[\"runc\"]", "[\"/bin/busybox\"]");
    fs::write(place.path("config.toml"), config).unwrap();
    for (what, how) in START_STATES {
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
            let _ = fs::remove_file(&report);
            let out = run_after(how, &command);
            let text = fs::read_to_string(&report);
            tells.push(text.unwrap_or_else(|e| panic!("{what}: {e}: {out:?}")));
        }
        assert_eq!(tells[1], tells[0], "{what}");
    }
}

/// Blocked signals stay blocked, and no other signal is blocked.
#[test]
fn blocked_signals_stay_blocked() {
    use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};

    if !can_run() {
        return;
    }
    let place = RuncBundle::new("blocked");
    let script = format!("exec >/tmp/told 2>&1; {PRINT_STATE}");
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGUSR1);
    blocked.add(Signal::SIGXFSZ);
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&blocked), Some(&mut before)).unwrap();
    let report_after = |by: &[&str]| {
        place.make_config("0", &script, |_| {});
        let _ = fs::remove_file(place.image("tmp/told"));
        let out = place.command(&[], Below::Runc, by).output().unwrap();
        fs::read_to_string(place.image("tmp/told"))
            .unwrap_or_else(|e| panic!("{e}: {}", text(&out)))
    };
    let (plain, ours) = (report_after(&[]), report_after(&[PROGRAM, "runtime"]));
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None).unwrap();
    assert_eq!(ours, plain);
}

fn ends_with_a_line(out: &Output, what: &str) {
    let output = text(out);
    assert_eq!(out.status.signal(), None, "{what}: {output}");
    for word in [
        "panicked",
        "backtrace",
        "RUST_BACKTRACE",
        "memory allocation of",
    ] {
        assert!(!output.contains(word), "{what}: {output}");
    }
    if !out.status.success() {
        // One more line if a log could not be written.
        let lines = output
            .lines()
            .filter(|l| !l.contains("dropped: nobody read them"));
        assert_eq!(lines.count(), 1, "{what}: {output}");
    }
}

#[test]
fn a_file_size_limit_is_handled_like_a_full_disk() {
    if !can_run() {
        return;
    }
    let place = RuncBundle::new("limited");
    make_nodes(&place);
    let config = fs::read_to_string(place.path("config.toml")).unwrap();
    let debug = place.path("debug").display().to_string();
    let config = config.replace(
        "[nvidia-container-runtime]\n",
        &format!("debug = \"{debug}\"\n[nvidia-container-runtime]\ndebug = \"{debug}\"\nlog-level = \"debug\"\n"),
    );
    fs::write(place.path("config.toml"), config).unwrap();
    // Limits in blocks of 512 bytes: zero, and half the size of config.json.
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
            let out = run_after(
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

            // The hook lowers its own limit, never above this one.
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

/// A debug log of the host's may be as long as it likes: lines are added to it, and the container starts.
#[test]
fn a_long_debug_log_is_written_to() {
    if !can_run() {
        return;
    }
    let place = RuncBundle::new("long-log");
    make_nodes(&place);
    let debug = place.path("debug");
    place.write_policy(&format!("debug = {:?}", debug.to_str().unwrap()));
    let length = 60 << 20;
    fs::File::create(&debug).unwrap().set_len(length).unwrap();
    let out = text(&place.run_with_hook("echo STARTED; cat /usr/lib/libcuda.so", |_| {}));
    assert!(out.contains("STARTED\na library"), "{out}");
    let log = fs::read(&debug).unwrap();
    let added = String::from_utf8_lossy(&log[usize::try_from(length).unwrap()..]);
    assert!(added.contains("\"level\":\"info\""), "{added}");
}

/// A file size limit, which the kernel also reports by a signal, is handled like a full disk: the cache is covered by
/// one in a tmpfs; if that cannot be written either, the container starts with the cache it has.
#[test]
fn a_cache_over_the_file_size_limit_is_covered_or_reported() {
    if !can_run() || !skips::has(&[skips::Need::Strace]) {
        return;
    }
    let place = RuncBundle::new("cover");
    make_nodes(&place);
    for (when, wanted) in [("1", "glibc-ld.so.cache"), ("1+", "the image's")] {
        // -D: strace is a grandchild, so the hook's parent is still the runtime.
        place.inject(&format!(
            "-D -e trace=write -e inject=write:error=EFBIG:signal=SIGXFSZ:when={when}"
        ));
        place.make_config("0", "head -c 17 /etc/ld.so.cache; echo started", |_| {});
        fs::write(place.image("etc/ld.so.cache"), "the image's").unwrap();
        let out = place.start_by(Way::Cdi, Below::Runc);
        let output = text(&out);
        let traced = fs::read_to_string(place.path("strace.log")).unwrap();
        assert!(
            output.contains("started") && output.contains(wanted),
            "{when}: {output}{traced}"
        );
        assert!(traced.contains("SIGXFSZ"), "{traced}");
    }
}

#[test]
fn running_out_of_memory_is_reported_in_one_line() {
    if !can_run() {
        return;
    }
    let place = RuncBundle::new("memory");
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
    // Address space limits in KiB, starting at what the program itself needs.
    for limit in [12_000, 16_000, 24_000, 40_000, 100_000] {
        let how = format!("ulimit -v {limit}");
        let out = run_after(
            &how,
            &place.command(&[], Below::Runc, &[PROGRAM, "runtime"]),
        );
        // If the program cannot even be loaded, the loader reports that.
        if text(&out).contains("out of memory") {
            failed += 1;
        }
        ends_with_a_line(&out, &how);
        let mut hook = Command::new(place.hook("nvidia-container-runtime-hook"));
        hook.arg("-config")
            .arg(place.path("config.toml"))
            .arg("prestart");
        let how = format!("{how}; exec <{}", place.path("state.json").display());
        ends_with_a_line(&run_after(&how, &hook), &how);
    }
    assert!(failed > 0, "no limit was too low");
}

#[test]
fn a_closed_pipe_does_not_end_the_program() {
    if !can_run() {
        return;
    }
    let place = RuncBundle::new("broken");
    place.make_config("0", "echo started >/tmp/told", |config| {
        let env = config["process"]["env"].as_array_mut().unwrap();
        env.push(json!("CUDA_VERSION=x"));
    });
    for how in ["exec >&- 2>&-", "exec 2>&1 >/dev/null | true; sleep 0.1"] {
        let _ = fs::remove_file(place.image("tmp/told"));
        run_after(how, &place.command(&[], Below::Runc, &[PROGRAM, "runtime"]));
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
