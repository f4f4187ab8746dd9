//! Long texts of a container are not repeated in messages, and messages that nobody reads do not
//! block a start. Needs root, runc and a static busybox; says so and passes if one is missing.
#![allow(clippy::unwrap_used)]

mod bundle;

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bundle::{Below, RuncBundle, can_run, text};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_gpu-container");
/// A start that takes longer is considered blocked.
const BOUND: Duration = Duration::from_secs(30);
/// How many bytes of a container's texts one line may repeat: a part of a variable and of the ID.
const REPEATED: usize = 450;
/// A character that none of our messages has.
const MARK: &str = "~";
/// Lengths of a variable: more than a pipe holds, and very long.
const LENGTHS: [usize; 2] = [70_000, 10_000_000];

/// Every variable of an image that we read.
const VARIABLES: [&str; 12] = [
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
    "NVIDIA_REQUIRE_CUDA",
    "NVIDIA_REQUIRE_ANYTHING",
    "NVIDIA_REQUIRE_JETPACK",
    "NVIDIA_DISABLE_REQUIRE",
    "NVIDIA_IMEX_CHANNELS",
    "NVIDIA_MIG_CONFIG_DEVICES",
    "NVIDIA_MIG_MONITOR_DEVICES",
    "NVIDIA_GDS",
    "CUDA_VERSION",
    "SWARM",
];

fn within_bound(child: &mut Child, what: &str) -> ExitStatus {
    let start = Instant::now();
    while start.elapsed() < BOUND {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let at = fs::read_to_string(format!("/proc/{}/wchan", child.id())).unwrap_or_default();
    let _ = child.kill();
    let _ = child.wait();
    panic!("{what}: does not end, waits in {at}");
}

/// Runs the command with a full pipe, socket and terminal in turn as standard output and error, which
/// nobody reads.
fn with_nobody_reading(what: &str, command: impl Fn() -> Command) {
    let (_pipe, to) = io::pipe().unwrap();
    // A separate open file description, so that O_NONBLOCK does not affect the program.
    let mut own = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(format!("/proc/self/fd/{}", to.as_raw_fd()))
        .unwrap();
    while own.write(&[b'x'; 4096]).is_ok() || own.write(b"x").is_ok() {}
    let (_socket, mut stream) = UnixStream::pair().unwrap();
    stream.set_nonblocking(true).unwrap();
    while stream.write(&[b'x'; 4096]).is_ok() || stream.write(b"x").is_ok() {}
    stream.set_nonblocking(false).unwrap();
    let (_terminal, slave) = terminal();
    for (end, kind) in [
        (to.into(), "pipe"),
        (stream.into(), "socket"),
        (slave, "terminal"),
    ] {
        let end: std::os::fd::OwnedFd = end;
        let mut command = command();
        command
            .stdout(end.try_clone().unwrap())
            .stderr(end.try_clone().unwrap());
        let mut child = command.spawn().unwrap();
        within_bound(&mut child, &format!("{what} by a {kind}"));
        let flags = rustix::fs::fcntl_getfl(&end).unwrap();
        assert!(
            !flags.contains(rustix::fs::OFlags::NONBLOCK),
            "{what}: {kind}"
        );
    }
}

/// A terminal whose buffer is full.
fn terminal() -> (fs::File, std::os::fd::OwnedFd) {
    let master = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open("/dev/ptmx")
        .unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
    let open = |flags: i32| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags | libc::O_NOCTTY)
            .open(name.to_str().unwrap())
            .unwrap()
    };
    let slave = open(0);
    let mut own = open(libc::O_NONBLOCK);
    while own.write(&[b'x'; 4096]).is_ok() || own.write(b"x").is_ok() {}
    (master, slave.into())
}

/// A container on a host with debug logs enabled.
fn place() -> RuncBundle {
    let place = RuncBundle::new("messages");
    let debug = place.path("debug").display().to_string();
    let config = fs::read_to_string(place.path("config.toml")).unwrap();
    let config = config.replace(
        "[nvidia-container-runtime]\n",
        &format!(
            "debug = \"{debug}\"\n[nvidia-container-runtime]\ndebug = \"{debug}\"\nlog-level = \"debug\"\n"
        ),
    );
    fs::write(
        place.path("config.toml"),
        format!("swarm-resource = \"SWARM\"\n{config}"),
    )
    .unwrap();
    place
}

/// The shim, with a log file as engines pass it.
fn shim(place: &RuncBundle) -> Command {
    let log = place.path("log").display().to_string();
    place.command(&[], Below::Runc, &[PROGRAM, "runtime", "--log", &log])
}

/// All messages of a start, including the logs.
fn all_messages(place: &RuncBundle, output: &str) -> String {
    let mut all = output.to_owned();
    for log in ["log", "debug"] {
        all += &fs::read_to_string(place.path(log)).unwrap_or_default();
        let _ = fs::remove_file(place.path(log));
    }
    all
}

fn ensure_short(place: &RuncBundle, output: &str, what: &str) {
    let all = all_messages(place, output);
    let each = all.lines().map(|line| line.matches(MARK).count());
    let repeated = each.max().unwrap_or_default();
    let start: String = all.chars().take(1000).collect();
    assert!(
        repeated <= REPEATED,
        "{what}: {repeated} bytes of it in\n{start}"
    );
    assert!(all.len() <= 20_000, "{what}: {} bytes:\n{start}", all.len());
}

fn set(config: &mut Value, name: &str, value: &str) {
    let env = config["process"]["env"].as_array_mut().unwrap();
    env.retain(|v| {
        !v.as_str().unwrap().starts_with("NVIDIA_VISIBLE_DEVICES=")
            || name != "NVIDIA_VISIBLE_DEVICES"
    });
    env.push(json!(format!("{name}={value}")));
}

#[test]
fn long_variables_do_not_block_a_start() {
    if !can_run() {
        return;
    }
    // Runs in parallel, since it is by far the longest of these tests.
    std::thread::scope(|scope| {
        for some in VARIABLES.chunks(VARIABLES.len().div_ceil(2)) {
            scope.spawn(|| long_variables(some));
        }
    });
}

/// Starts containers in all ways, with each of these variables as long as possible.
fn long_variables(variables: &[&str]) {
    let place = place();
    let nothing_below = place.path("nothing-below.toml");
    let config = fs::read_to_string(place.path("config.toml")).unwrap();
    fs::write(
        &nothing_below,
        config.replace("[\"runc\"]", "[\"/bin/true\"]"),
    )
    .unwrap();
    for variable in variables {
        for length in LENGTHS {
            let what = format!("{variable} of {length} bytes");
            place.make_config("0", "true", |c| set(c, variable, &MARK.repeat(length)));
            let config = fs::read(place.path("bundle/config.json")).unwrap();
            let out = shim(&place).output().unwrap();
            ensure_short(&place, &text(&out), &what);
            // The low-level runtime itself would block, because the kernel refuses such a variable.
            with_nobody_reading(&what, || {
                // The shim has edited config.json if GPUs were given.
                fs::write(place.path("bundle/config.json"), &config).unwrap();
                let mut command = shim(&place);
                command.env("NVIDIA_CTK_CONFIG_FILE_PATH", &nothing_below);
                command
            });
            all_messages(&place, "");

            fs::write(place.path("bundle/config.json"), &config).unwrap();
            place.add_prestart_hook(Below::Runc);
            let out = place.start_plain(Below::Runc);
            // runc itself reports which command failed, with its output.
            ensure_short(&place, &text(&out), &format!("{what}, prestart"));
            let hook = place.hook("nvidia-container-runtime-hook");
            with_nobody_reading(&format!("{what}, prestart"), || {
                let mut command = Command::new(&hook);
                command
                    .arg("-config")
                    .arg(place.path("config.toml"))
                    .arg("prestart");
                let state = json!({"bundle": place.path("bundle"), "pid": 1, "id": "x"});
                fs::write(place.path("told.json"), state.to_string()).unwrap();
                command.stdin(fs::File::open(place.path("told.json")).unwrap());
                command
            });
            all_messages(&place, "");
        }
    }
}

/// Replaces, one after the other, every string and every key of a config.json like Docker's.
#[test]
fn messages_do_not_repeat_long_texts_of_a_config() {
    if !can_run() {
        return;
    }
    let place = place();
    let config = fs::read_to_string(place.path("config.toml")).unwrap();
    let config = config.replace("[\"runc\"]", "[\"/bin/true\"]");
    fs::write(place.path("config.toml"), config).unwrap();
    place.make_config("0", "true", |config| {
        set(config, "CUDA_VERSION", "12.4");
        config["annotations"] = json!({"cdi.k8s.io/x": "nvidia.com/gpu=0", "other": "y"});
        config["hooks"] = json!({"prestart": [{"path": "/bin/true", "args": ["x"]}]});
        for name in [
            "nvidia-container-devices/cdi/nvidia.com/gpu/0",
            "nvidia-container-devices/imex/0",
        ] {
            let to = format!("/var/run/{name}");
            let mount = json!({"source": "/dev/null", "destination": to, "options": ["ro"]});
            config["mounts"].as_array_mut().unwrap().push(mount);
        }
    });
    let plain = place.config();
    let long = MARK.repeat(LENGTHS[0]);
    for pointer in texts(&plain, "") {
        // The beginning of a string stays, because it determines the meaning.
        for (keep, what) in [(true, "longer"), (false, "replaced")] {
            place.edit_config(|config| {
                *config = plain.clone();
                let text = config.pointer_mut(&pointer).unwrap();
                let old = text.as_str().unwrap().to_owned();
                *text = json!(if keep { old + &long } else { long.clone() });
            });
            let out = shim(&place).output().unwrap();
            ensure_short(&place, &text(&out), &format!("{pointer} {what}"));
        }
    }
    for mode in ["cdi", "auto", "legacy"] {
        let log = place.path("log");
        place.edit_config(|config| {
            *config = plain.clone();
            config["annotations"] = json!({ format!("cdi.k8s.io/{long}"): long.clone() });
        });
        let name = place.hook(&format!("nvidia-container-runtime.{mode}"));
        let out = Command::new(name)
            .arg("--log")
            .arg(log)
            .args(["create", "--bundle"])
            .arg(place.path("bundle"))
            .arg(&long)
            .env("NVIDIA_CTK_CONFIG_FILE_PATH", place.path("config.toml"))
            .output()
            .unwrap();
        ensure_short(&place, &text(&out), &format!("annotations in mode {mode}"));
    }
}

/// The JSON pointers of all strings in a value.
fn texts(value: &Value, at: &str) -> Vec<String> {
    match value {
        Value::String(_) => vec![at.to_owned()],
        Value::Array(list) => {
            let each = list.iter().enumerate();
            each.flat_map(|(n, v)| texts(v, &format!("{at}/{n}")))
                .collect()
        }
        Value::Object(members) => {
            let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
            let each = members.iter();
            each.flat_map(|(key, v)| texts(v, &format!("{at}/{}", escaped(key))))
                .collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn messages_do_not_repeat_long_arguments_of_hooks_and_the_cli() {
    if !can_run() {
        return;
    }
    let place = place();
    place.make_config("0", "true", |_| {});
    // The kernel limits an argument to 128 KiB.
    let long = MARK.repeat(LENGTHS[0]);
    let hook = place.hook("nvidia-cdi-hook");
    let cli = place.hook("nvidia-container-cli");
    let bundle = place.path("bundle").display().to_string();
    let state = |member: &str, value: &str| {
        let mut state = json!({"bundle": bundle, "pid": 1, "id": "x"});
        state[member] = json!(value);
        state.to_string()
    };
    let mut runs = Vec::new();
    for (member, value) in [
        ("id", &long),
        ("bundle", &format!("/{long}")),
        ("root", &format!("/{long}")),
        ("pid", &long),
    ] {
        for words in [&["cdi", "--mount"][..], &["update-ldcache"], &["noop"]] {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            runs.push((&hook, words, state(member, value)));
        }
    }
    for words in [
        vec![&*long],
        vec!["cdi", &long],
        vec!["cdi", "--mount", &long],
        vec!["cdi", "--library", &long],
        vec!["create-symlinks", "--link", &long],
        vec!["create-symlinks", "--link", "a::b", &long],
        vec!["chmod", "--mode", &long, "--path", "/x"],
        vec!["chmod", "--mode", "755", "--path", &long],
        vec!["update-ldcache", "--folder", &long],
    ] {
        let words = words.into_iter().map(str::to_owned).collect();
        runs.push((&hook, words, state("id", "x")));
    }
    let own = format!("--{long}");
    for words in [
        vec!["configure", &own],
        vec![&*long],
        vec!["configure", "--device", &long, "/nowhere"],
        vec!["configure", "--require", &long, "/nowhere"],
        vec!["configure", "--mig-config", &long, "/nowhere"],
        vec!["configure", "--imex-channel", &long, "/nowhere"],
        vec!["configure", "--cuda-compat-mode", &long, "/nowhere"],
        vec!["configure", "--pid", &long, "/nowhere"],
        vec!["configure", "--pid", "1", &long],
        vec!["configure", "--oci-state"],
        vec!["--debug", &long, "info"],
        vec!["--root", &long, "info"],
    ] {
        let words = words.into_iter().map(str::to_owned).collect();
        runs.push((&cli, words, state("bundle", &format!("/{long}"))));
    }
    for (program, words, state) in runs {
        let what = format!(
            "{program:?} {:?}",
            words
                .iter()
                .map(|w| &w[..w.len().min(20)])
                .collect::<Vec<_>>()
        );
        let command = || {
            fs::write(place.path("state.json"), &state).unwrap();
            let mut command = Command::new(program);
            command
                .args(&words)
                .stdin(fs::File::open(place.path("state.json")).unwrap());
            command
        };
        let out = command().output().unwrap();
        ensure_short(&place, &text(&out), &what);
        with_nobody_reading(&what, command);
    }
}

#[test]
fn a_log_that_is_not_a_regular_file_is_neither_written_nor_waited_for() {
    if !can_run() {
        return;
    }
    let place = place();
    let fifo = place.path("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let read = place.path("read");
    mkfifo(&read, Mode::S_IRWXU).unwrap();
    let full = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&read);
    let mut full = full.unwrap();
    while full.write(&[b'x'; 4096]).is_ok() {}
    let socket = place.path("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let cli = place.hook("nvidia-container-cli");
    let hook = place.hook("nvidia-container-runtime-hook");
    let debug = place.path("debug").display().to_string();
    let config = fs::read_to_string(place.path("config.toml")).unwrap();
    for log in [
        &fifo,
        &read,
        &socket,
        Path::new("/dev/full"),
        Path::new("/dev/ptmx"),
        &place.path(""),
    ] {
        let what = log.display().to_string();
        fs::write(place.path("config.toml"), config.replace(&debug, &what)).unwrap();
        for visible in ["0", "none", "9"] {
            place.make_config(visible, "echo started", |c| set(c, "CUDA_VERSION", "x"));
            let mut command =
                place.command(&[], Below::Runc, &[PROGRAM, "runtime", "--log", &what]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            // runc opens the log as well, and fails at once or blocks.
            if log == Path::new("/dev/full") {
                within_bound(&mut child, &what);
            } else {
                shim_alone_ends(&place, &mut child, &what);
            }
            place.add_prestart_hook(Below::Runc);
            let out = place.start_plain(Below::Runc);
            assert_eq!(
                text(&out).contains("started"),
                visible != "9",
                "{what}: {}",
                text(&out)
            );
        }
        let mut child = Command::new(&hook)
            .arg("-config")
            .arg(place.path("config.toml"))
            .arg("prestart")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        within_bound(&mut child, &what);
        let mut child = Command::new(&cli)
            .arg("--debug")
            .arg(log)
            .arg("info")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        within_bound(&mut child, &what);
    }
    let mut unread = Vec::new();
    let _ = full.read_to_end(&mut unread);
    assert!(unread.iter().all(|b| *b == b'x'));
}

/// Waits until the process ends or has become runc.
fn shim_alone_ends(place: &RuncBundle, child: &mut Child, what: &str) {
    let start = Instant::now();
    while start.elapsed() < BOUND {
        let program = fs::read_link(format!("/proc/{}/exe", child.id())).unwrap_or_default();
        if child.try_wait().unwrap().is_some() || program.ends_with("runc") {
            let _ = child.kill();
            let _ = child.wait();
            let _ = Command::new("runc")
                .arg("--root")
                .arg(place.path("state"))
                .args(["delete", "-f", place.id()])
                .output();
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("{what}: the shim does not end");
}

#[test]
fn a_container_without_gpus_starts_whatever_the_length_of_its_config() {
    if !can_run() {
        return;
    }
    let place = place();
    let long = "y".repeat(17 << 20);
    for (visible, starts) in [("void", true), ("", true), ("0", false)] {
        place.make_config(visible, "echo started", |config| {
            config["annotations"] = json!({"org.example.long": long});
        });
        let out = text(&shim(&place).output().unwrap());
        assert_eq!(
            out.contains("started"),
            starts,
            "{visible:?}: {}",
            &out[..out.len().min(2000)]
        );
        assert!(
            starts || out.contains("longer than 16777216 bytes"),
            "{out}"
        );
    }
    // Also as a mount that requests a device, and as an annotation.
    for edit in [
        json!([{"source": "/dev/null", "destination": "/var/run/nvidia-container-devices/0"}]),
        json!({"cdi.k8s.io/x": "nvidia.com/gpu=0"}),
    ] {
        place.make_config("", "echo started", |config| {
            config["annotations"] = json!({"org.example.long": long});
            match &edit {
                Value::Array(mounts) => config["mounts"]
                    .as_array_mut()
                    .unwrap()
                    .extend(mounts.clone()),
                _ => config["annotations"]["cdi.k8s.io/x"] = edit["cdi.k8s.io/x"].clone(),
            }
        });
        let config = fs::read_to_string(place.path("config.toml")).unwrap();
        let accepts = "accept-nvidia-visible-devices-as-volume-mounts = true\n";
        fs::write(
            place.path("config.toml"),
            accepts.to_owned() + config.trim_start_matches(accepts),
        )
        .unwrap();
        let out = text(&shim(&place).output().unwrap());
        assert!(
            out.contains("longer than 16777216 bytes"),
            "{}",
            &out[..out.len().min(2000)]
        );
    }
}

#[test]
fn a_hook_whose_input_stays_open_ends() {
    if !can_run() {
        return;
    }
    let place = place();
    place.make_config("void", "true", |_| {});
    let state = json!({"bundle": place.path("bundle"), "pid": 1, "id": "x"}).to_string();
    let mut started = Vec::new();
    for (program, words) in [
        ("nvidia-container-runtime-hook", &["poststop"][..]),
        ("nvidia-container-runtime-hook", &["poststart"]),
        ("nvidia-container-runtime-hook", &["prestart"]),
        ("nvidia-cdi-hook", &["noop"]),
        ("nvidia-cdi-hook", &["nobody-knows-it"]),
        ("nvidia-cdi-hook", &[]),
        ("nvidia-cdi-hook", &["cdi"]),
        ("nvidia-cdi-hook", &["update-ldcache"]),
        ("nvidia-container-cli", &["configure", "--oci-state"]),
    ] {
        let hook = place.hook(program);
        for state_part in ["", &state[..20], &state] {
            let what = format!("{program} {words:?} told {} bytes", state_part.len());
            let mut child = Command::new(&hook)
                .args(words)
                .env("NVIDIA_CTK_CONFIG_FILE_PATH", place.path("config.toml"))
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut input = child.stdin.take().unwrap();
            input.write_all(state_part.as_bytes()).unwrap();
            started.push((child, input, Instant::now(), state_part == state, what));
        }
    }
    // Hooks that got their whole input must end although it stays open.
    started.sort_by_key(|(.., is_whole, _)| !is_whole);
    for (mut child, _input, start, is_whole, what) in started {
        within_bound(&mut child, &what);
        let took = start.elapsed();
        let most = Duration::from_secs(if is_whole { 4 } else { 20 });
        assert!(took < most, "{what}: {took:?}");
    }
}
