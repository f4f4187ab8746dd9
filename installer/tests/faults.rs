//! Tests faults: every system call of a run fails in turn, and the process is killed before each.
//! Nothing may be lost, half done or left over. Needs root and strace; says so and passes if one is
//! missing.
//!
//! By default a share of the points is tried. `GPUSETUP_FAULTS=all cargo test -p gpusetup --test
//! faults` tries every point; a number instead of `all` tries that many.
//!
//! A kill after a call is the same as a kill before the next call that changes anything: in
//! between, a process changes only its own memory, and after its last call it ends by itself. So a
//! kill at the entry of each changing call covers both.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use fixture::engines::{ENGINES, Engine, KILL, State, copy, gpusetup, state, traced, tree};

/// Calls that change something, or may. With a `?` before its name, strace ignores a call that this
/// machine's kernel does not have.
const CHANGING: [&str; 24] = [
    "openat",
    "open",
    "creat",
    "write",
    "writev",
    "pwrite64",
    "ftruncate",
    "fchown",
    "fchmod",
    "fsync",
    "fdatasync",
    "renameat",
    "renameat2",
    "rename",
    "unlinkat",
    "unlink",
    "mkdirat",
    "mkdir",
    "symlinkat",
    "symlink",
    "utimensat",
    "flock",
    "fsetxattr",
    "fremovexattr",
];
/// Calls that only read.
const LOOKING: [&str; 19] = [
    "openat2",
    "read",
    "pread64",
    "readv",
    "lseek",
    "close",
    "fstat",
    "newfstatat",
    "statx",
    "stat",
    "lstat",
    "getdents64",
    "readlink",
    "readlinkat",
    "faccessat",
    "faccessat2",
    "access",
    "flistxattr",
    "fgetxattr",
];
/// What happens to a call, as strace's `inject` expression. `#` stands for the call's number, `#+`
/// for that call and all later ones.
const FAULTS: [&str; 4] = [
    "error=EIO:when=#",
    "error=EACCES:when=#",
    "error=EINTR:when=#",
    "error=EIO:when=#+",
];
/// What also happens to a call that changes something.
const FULL: &str = "error=ENOSPC:when=#+";
/// Ctrl-C, which must never end the process within a step.
const STOP: &str = "signal=INT:when=#";
/// How many points are tried, unless more are asked for.
const SHARE: usize = 60;

const UNDO: &[&str] = &["undo", "--yes"];
const RECOVER: &[&str] = &["recover"];
const SET: &[&str] = &["config", "set", "disable-require"];

/// A command on a tree, and its result if nothing fails.
struct Case {
    name: String,
    tree: tempfile::TempDir,
    command: Vec<&'static str>,
    old: State,
    new: State,
}

/// How often a call occurs in a log.
fn count(log: &str, call: &str) -> usize {
    let is_it = |l: &&str| {
        let what = l.split_whitespace().nth(1);
        what.and_then(|w| w.split_once('('))
            .is_some_and(|(name, _)| name == call)
    };
    log.lines().filter(is_it).count()
}

impl Case {
    fn new(name: String, tree: tempfile::TempDir, command: Vec<&'static str>) -> Self {
        let old = state(tree.path());
        let done = copy(tree.path());
        assert_eq!(gpusetup(done.path(), &command), Some(0), "{name}");
        let new = state(done.path());
        assert_ne!(old, new, "{name}");
        Self {
            name,
            tree,
            command,
            old,
            new,
        }
    }

    /// Every point: a call, its number, and what happens to it.
    fn points(&self) -> Vec<(&'static str, String)> {
        let root = copy(self.tree.path());
        let known: Vec<String> = CHANGING
            .iter()
            .chain(&LOOKING)
            .map(|c| format!("?{c}"))
            .collect();
        let (code, log) = traced(root.path(), &known.join(","), None, &self.command);
        assert_eq!(code, Some(0), "{}", self.name);
        let mut points = Vec::new();
        for (calls, more) in [(&CHANGING[..], &[FULL, STOP, KILL][..]), (&LOOKING, &[])] {
            for call in calls {
                for n in 1..=count(&log, call) {
                    let faults = FAULTS.iter().chain(more);
                    points.extend(faults.map(|f| (*call, f.replace('#', &n.to_string()))));
                }
            }
        }
        points
    }

    /// What is wrong after this fault, if anything.
    fn try_point(&self, call: &str, fault: &str) -> Result<(), String> {
        let root = copy(self.tree.path());
        let (code, log) = traced(root.path(), call, Some(fault), &self.command);
        let at = state(root.path());
        match code {
            Some(0) if at != self.new => {
                return Err(difference("exit 0, yet not done", &at, &self.new));
            }
            // 101: a panic in Rust.
            Some(101) => return Err("a panic".into()),
            Some(3) | None => {}
            Some(0) => return Ok(()),
            Some(code) if at != self.old => {
                return Err(difference(
                    &format!("exit {code}, yet not put back"),
                    &at,
                    &self.old,
                ));
            }
            Some(_) => {}
        }
        let code = gpusetup(root.path(), RECOVER);
        if code != Some(0) {
            return Err(format!("recover: {code:?}, after\n{log}"));
        }
        let at = state(root.path());
        if at != self.old && at != self.new {
            return Err(difference("after recover", &at, &self.old));
        }
        Ok(())
    }
}

fn difference(what: &str, at: &State, wanted: &State) -> String {
    let differs: Vec<_> = at
        .keys()
        .chain(wanted.keys())
        .filter(|k| at.get(*k) != wanted.get(*k))
        .collect();
    format!("{what}: {differs:?}")
}

fn cases(engine: &Engine) -> Vec<Case> {
    let name = |what: &str| format!("{what}, {}", engine.name);
    let mut cases = vec![
        Case::new(name("install"), tree(engine), engine.install()),
        Case::new(name("undo"), engine.installed(), UNDO.to_vec()),
    ];
    let program = Path::new(env!("CARGO_BIN_EXE_gpusetup"));
    for (what, command) in [("install", engine.install()), ("undo", UNDO.to_vec())] {
        for (when, share) in [("half-way", Some(2)), ("at its end", None)] {
            let killed = engine.killed(program, &command, share);
            let what = format!("recover from an {what} killed {when}");
            cases.push(Case::new(name(&what), killed, RECOVER.to_vec()));
        }
    }
    // CRI-O's setup writes the file that `config set` edits.
    if engine.name == "CRI-O" {
        let set = name("config set");
        cases.push(Case::new(set, tree(engine), SET.to_vec()));
        let set = name("config set where all is set up");
        cases.push(Case::new(set, engine.installed(), SET.to_vec()));
    }
    cases
}

#[test]
fn no_failing_system_call_loses_data() {
    if !skips::has(&[skips::Need::Root, skips::Need::Strace]) {
        return;
    }
    let started = Instant::now();
    let share = match std::env::var("GPUSETUP_FAULTS").as_deref() {
        Ok("all") => usize::MAX,
        Ok(n) => n.parse().unwrap(),
        Err(_) => SHARE,
    };
    let cases: Vec<Case> = std::thread::scope(|scope| {
        let made: Vec<_> = ENGINES.iter().map(|e| scope.spawn(|| cases(e))).collect();
        made.into_iter().flat_map(|m| m.join().unwrap()).collect()
    });
    let mut points: Vec<_> = cases
        .iter()
        .flat_map(|case| {
            case.points()
                .into_iter()
                .map(move |(call, fault)| (case, call, fault))
        })
        .collect();
    let there = points.len();
    // The stride is odd, so that every kind of fault is tried.
    let stride = there.div_ceil(share) | 1;
    let mut n = 0;
    points.retain(|_| {
        n += 1;
        n % stride == 0
    });
    assert!(!points.is_empty(), "none of {there} points");
    let next = AtomicUsize::new(0);
    let losses: Vec<String> = std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let work = || {
            let mut losses = Vec::new();
            while let Some((case, call, fault)) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(why) = case.try_point(call, fault) {
                    losses.push(format!("{}: {call}:{fault}: {why}", case.name));
                }
            }
            losses
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect()
    });
    println!(
        "{} of {there} points tried in {} cases and {} s, {} losses",
        points.len(),
        cases.len(),
        started.elapsed().as_secs(),
        losses.len()
    );
    assert!(
        losses.is_empty(),
        "{} losses:\n{}",
        losses.len(),
        losses.join("\n")
    );
}
