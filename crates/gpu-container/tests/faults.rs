//! Every system call of a container's start fails once, in every way in: the container then has its GPU or is refused with
//! a reason. Needs root, runc, strace and a static busybox.
//!
//! By default a share of the calls fails, each with one of the errors, in turn; with `GPU_CONTAINER_FAULTS=all` every call
//! with each of them.
#![allow(clippy::unwrap_used)]

mod bundle;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::process::Output;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bundle::parts::shared_object;
use bundle::{Below, RuncBundle, Way, can_run, make_nodes, text};
use skips::Need;

/// How a reason begins.
const SPEAKERS: [&str; 2] = ["gpu-container: ", "nvidia-container-cli: "];
const ERRORS: [&str; 4] = ["ENOSYS", "EPERM", "EINTR", "ENOMEM"];

/// Who is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// The shim, until it becomes runc.
    Shim,
    /// The same for a container that asks for no GPU, which starts whatever fails.
    ShimOfOthers,
    /// The hook that the shim adds.
    ShimsHook,
    /// The hook of our CDI spec.
    Cdi,
    /// The hook of `docker run --gpus`.
    Prestart,
    /// `nvidia-container-cli`.
    Cli,
    /// A hook of a CDI spec that nvidia-ctk made, on libraries that the runtime has mounted.
    UpdateLdcache,
}

const WHO: [Who; 7] = [
    Who::Shim,
    Who::ShimOfOthers,
    Who::ShimsHook,
    Who::Cdi,
    Who::Prestart,
    Who::Cli,
    Who::UpdateLdcache,
];

impl Who {
    /// What such a container shows once it is started. The first two are never left out; the others are where a warning
    /// says so.
    fn shows(self) -> &'static [&'static str] {
        match self {
            // There the GPU is the runtime's.
            Self::UpdateLdcache => &["LIBRARY \x7fELF", "CACHED", "LINK libcuda.so.1.2.3"],
            Self::ShimOfOthers => &["ENDED"],
            _ => &SHOWN,
        }
    }
}

/// One call that fails.
struct Case {
    who: Who,
    call: String,
    /// Which of its calls, from 1.
    nth: usize,
    error: &'static str,
}

impl Display for Case {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            who,
            call,
            nth,
            error,
        } = self;
        write!(f, "{who:?}: {call} number {nth}: {error}")
    }
}

/// What cannot fail, or ends the process. `brk` itself answers with an address, never with an error.
const NEVER_FAIL: [&str; 14] = [
    "brk",
    "exit_group",
    "exit",
    "getpid",
    "gettid",
    "getppid",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "umask",
    "rt_sigreturn",
    "restart_syscall",
    "execve",
];

const SHOWN: [&str; 5] = [
    "/dev/nvidia1': No such device or address",
    "LIBRARY a library",
    "LINK libcuda.so.1.2.3",
    "DEVELOPMENT a library",
    "CACHED",
];
const NEVER_LEFT_OUT: usize = 2;

const SCRIPT: &str = "echo STARTED; busybox cat /dev/nvidia1; \
    echo LIBRARY $(busybox cat /usr/lib/libcuda.so.1.2.3); \
    echo LINK $(busybox readlink /usr/lib/libcuda.so.1); \
    echo DEVELOPMENT $(busybox cat /usr/lib/libcuda.so); \
    busybox grep -q libcuda.so.1 /etc/ld.so.cache && \
    busybox grep -q libown.so.1 /etc/ld.so.cache && echo CACHED; echo ENDED";

fn place(who: Who) -> RuncBundle {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let place = RuncBundle::new(&format!("fault-{who:?}-{number}").to_lowercase());
    make_nodes(&place);
    let own = gpu_inject::Library {
        path: "/own/libown.so.1".into(),
        soname: "libown.so.1".into(),
        compat32: false,
    };
    let cache = gpu_inject::rootfs_edits::ld_cache::with_libraries(b"", &[own]).unwrap();
    fs::write(place.image("etc/ld.so.cache"), cache).unwrap();
    let gpu = if who == Who::ShimOfOthers {
        "void"
    } else {
        "1"
    };
    place.make_config(gpu, SCRIPT, |_| {});
    if who == Who::UpdateLdcache {
        let library = shared_object("libcuda.so.1", None);
        fs::create_dir_all(place.image("usr/lib")).unwrap();
        fs::write(place.image("usr/lib/libcuda.so.1.2.3"), library).unwrap();
    }
    place
}

/// Starts a container; the program is traced with these options. Returns what was traced as well.
fn start(who: Who, options: &str) -> (Output, String) {
    let place = place(who);
    let log = place.path("strace.log");
    // -D: the program's parent is the same as without strace.
    if matches!(who, Who::Shim | Who::ShimOfOthers) {
        let at = log.display().to_string();
        // Until it becomes the low-level runtime.
        let mut words = vec!["strace", "-D", "-b", "execve", "-s", "300", "-o", &at];
        words.extend(options.split(' '));
        let out = place.start_on(&words, Way::Shim, Below::Runc);
        return (out, fs::read_to_string(log).unwrap_or_default());
    }
    place.inject(&format!("-D -s 300 {options}"));
    let out = match who {
        Who::Shim | Who::ShimOfOthers | Who::ShimsHook => place.start_by(Way::Shim, Below::Runc),
        Who::Cdi => place.start_by(Way::Cdi, Below::Runc),
        Who::Prestart => place.start_by(Way::Prestart, Below::Runc),
        Who::Cli => {
            place.add_cli_hook();
            place.start_plain(Below::Runc)
        }
        Who::UpdateLdcache => {
            place.add_vendor_hook(&["update-ldcache", "--folder", "/usr/lib"]);
            place.start_plain(Below::Runc)
        }
    };
    (out, fs::read_to_string(log).unwrap_or_default())
}

/// The names of the calls, in order.
fn calls(trace: &str) -> impl Iterator<Item = &str> {
    trace.lines().filter_map(|line| {
        let line = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
        let (name, _) = line.split_once('(')?;
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        name.chars().all(is_name).then_some(name)
    })
}

/// Every call after those of the C library's start, each with its number among those of its name.
fn recorded(who: Who) -> Vec<(String, usize)> {
    let (out, trace) = start(who, "-e trace=all");
    let wrong = wrong(who, &out, &trace);
    assert_eq!(wrong, None, "{who:?} without a fault: {}", text(&out));
    assert!(out.status.success(), "{who:?}: {}", text(&out));
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut is_ours = false;
    let mut all = Vec::new();
    for name in calls(&trace) {
        let count = counts.entry(name).or_default();
        *count += 1;
        // The first call of our own `main` (`gpu_inject::live::start`).
        is_ours |= name == "poll";
        if is_ours && !NEVER_FAIL.contains(&name) {
            all.push((name.to_owned(), *count));
        }
    }
    let least = if who == Who::ShimOfOthers { 8 } else { 30 };
    assert!(all.len() > least, "{who:?}: {trace}");
    all
}

/// What is wrong with a start.
fn wrong(who: Who, out: &Output, trace: &str) -> Option<String> {
    let output = text(out);
    let fault = ["panicked", "a fault of this program", "signal: "];
    if let Some(fault) = fault.iter().find(|word| output.contains(**word)) {
        return Some(format!("{fault:?}"));
    }
    if !output.contains("STARTED\n") {
        // A reason that could not be written is counted, and that is written where it can be.
        let was_tried = trace
            .lines()
            .any(|line| line.contains("write") && SPEAKERS.iter().any(|name| line.contains(name)));
        let has_reason = SPEAKERS.iter().any(|name| output.contains(name)) || was_tried;
        if out.status.success() || !has_reason {
            return Some("neither started nor refused with a reason".into());
        }
        // Without its config.json it is not known that it asks for nothing.
        if who == Who::ShimOfOthers && !output.contains("config.json: ") {
            return Some("refused, though it asks for nothing".into());
        }
        return None;
    }
    let shows = who.shows();
    let missing = shows.iter().position(|shown| !output.contains(shown))?;
    let is_warned = trace.contains(": in the container: ");
    if missing >= NEVER_LEFT_OUT && is_warned {
        return None;
    }
    Some(format!("started without {:?}", shows[missing]))
}

fn try_one(case: &Case) -> Option<String> {
    let Case {
        call, nth, error, ..
    } = case;
    // What is said on standard error, where that is a pipe or a file.
    let options =
        format!("-e trace={call},write,pwritev2 -e inject={call}:error={error}:when={nth}");
    let (out, trace) = start(case.who, &options);
    if !trace.contains("(INJECTED)") {
        return Some(format!("{case}: not reached\n{trace}"));
    }
    let wrong = wrong(case.who, &out, &trace)?;
    Some(format!("{case}: {wrong}\n{}\n{trace}", text(&out)))
}

#[test]
fn a_container_has_its_gpu_or_is_refused_whichever_call_fails() {
    if !can_run() || !skips::has(&[Need::Strace]) {
        return;
    }
    let wanted = std::env::var("GPU_CONTAINER_FAULTS").unwrap_or_default();
    let mut todo = Vec::new();
    for who in WHO {
        let calls = recorded(who);
        let names: BTreeSet<&String> = calls.iter().map(|(name, _)| name).collect();
        println!("{who:?}: {} calls of {} names", calls.len(), names.len());
        let mut tried = BTreeSet::new();
        for (at, (call, nth)) in calls.into_iter().enumerate() {
            // A share that takes half a minute: the first call of each name, and a fifth of the others.
            let is_in_share = tried.insert(call.clone()) || at % 5 == 0;
            for (turn, error) in ERRORS.into_iter().enumerate() {
                // The kernel has memory for that before any process is there; std takes it for granted.
                if (call.as_str(), error) == ("getrandom", "ENOMEM") {
                    continue;
                }
                let is_wanted = match wanted.as_str() {
                    "" => is_in_share && at % ERRORS.len() == turn,
                    "all" => true,
                    name => call == name,
                };
                if is_wanted {
                    todo.push(Case {
                        who,
                        call: call.clone(),
                        nth,
                        error,
                    });
                }
            }
        }
    }
    let begin = Instant::now();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(case) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                    failures.lock().unwrap().extend(try_one(case));
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let seconds = begin.elapsed().as_secs();
    println!("{} starts with a fault in {seconds} s", todo.len());
    assert!(
        failures.is_empty(),
        "{} failures\n{}",
        failures.len(),
        failures.join("\n")
    );
}
