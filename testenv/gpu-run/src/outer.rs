//! The part of a run on the host itself: checks that a run is possible, starts it in its own namespaces, waits with a
//! time limit, checks that the host is unchanged, and writes the report.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::files;
use crate::isolate::self_command;
use crate::options::{BESIDE, Options};
use crate::redact::Redactor;
use crate::report::{HOST_UNCHANGED_ROW, Report, Row, SCHEMA, Verdict};
use crate::work::RunResults;
use crate::{host, layer, report};

const INTERRUPTED: u8 = 130;
const CGROUP: &str = "gpu-run-";

/// What a run would change if it escaped its layer.
const WATCHED: [&str; 8] = [
    "/etc",
    "/var/lib/gpusetup",
    "/run/cdi",
    "/run/gpusetup",
    "/run/docker.sock",
    "/usr/bin/gpusetup",
    "/usr/lib/gpu-container",
    "/dev/char",
];

pub(crate) fn run(mut options: Options) -> Result<u8, String> {
    let start = Instant::now();
    if !nix::unistd::geteuid().is_root() {
        return Err(
            "this needs root, for mounts, device nodes and engines of its own: run it with sudo"
                .into(),
        );
    }
    if options.fake.is_none() && host::driver(Path::new("/")).is_none() {
        return Err(
            "no NVIDIA driver is loaded on this host (no /proc/driver/nvidia/version); --fake tries a fake one".into(),
        );
    }
    if options.fake.is_some() && host::driver(Path::new("/")).is_some() {
        return Err("--fake is for hosts without a driver, and this one has one".into());
    }
    find_programs(&mut options)?;
    make_output(&mut options.output)?;
    // A clock before 1970 has no such form.
    let now = SystemTime::now().max(UNIX_EPOCH);
    options.date = humantime::format_rfc3339_seconds(now).to_string();
    options.cgroup = format!("/{CGROUP}{}", std::process::id());
    // Left by runs that were killed.
    remove_cgroups(|pid| !Path::new(&format!("/proc/{pid}")).exists());
    let before = snapshot_host();
    let outcome = start_and_wait(&options);
    remove_cgroups(|pid| pid == std::process::id());
    let _ = fs::remove_dir(options.output.join(layer::MOUNT_POINT));
    let results = match outcome {
        RunOutcome::Finished(results) => *results,
        RunOutcome::Impossible(why) => return Err(why),
        RunOutcome::Interrupted => {
            eprintln!("gpu-run: interrupted; all that it had started is gone");
            return Ok(INTERRUPTED);
        }
    };
    let changed = files::differences(&before, &snapshot_host());
    let verdict = if changed.is_empty() {
        Verdict::Ok
    } else {
        Verdict::Failed(files::summary(&changed))
    };
    let mut rows = results.rows;
    rows.push(Row {
        group: "after".into(),
        name: HOST_UNCHANGED_ROW.into(),
        verdict,
        ms: None,
    });
    let mut report = Report {
        schema: SCHEMA,
        date: options.date.clone(),
        fake_driver: options.fake.is_some(),
        host: results.host,
        rows,
        times: results.times,
        seconds: report::ms(start.elapsed()) / 1000.0,
        exit_code: 0,
    };
    report.exit_code = report.code();
    let mut redactor = Redactor::new(&report.host.name, options.keep_identifiers);
    redactor.number_first(report.host.gpus.iter().map(|g| g.uuid.clone()));
    if !options.keep_identifiers {
        report.host.name = "host".into();
    }
    write(&report, &options, &mut redactor)
}

fn find_programs(options: &mut Options) -> Result<(), String> {
    if options.programs == Path::new(BESIDE) {
        let own = std::env::current_exe().map_err(|e| e.to_string())?;
        options.programs = own.parent().map(Path::to_owned).unwrap_or_default();
    }
    for name in ["tree/usr/bin/gpusetup", "gpu-run", "gpu-probe"] {
        let path = options.programs.join(name);
        if !path.exists() {
            return Err(format!(
                "{} is not there: `testenv/gpu --pack DIR` makes a directory with all of it",
                path.display()
            ));
        }
    }
    Ok(())
}

fn make_output(output: &mut PathBuf) -> Result<(), String> {
    let with_path = |e: std::io::Error, path: &Path| format!("{}: {e}", path.display());
    fs::create_dir_all(&*output).map_err(|e| with_path(e, output))?;
    *output = output.canonicalize().map_err(|e| with_path(e, output))?;
    // Left by a run that was killed.
    let _ = fs::remove_dir(output.join(layer::MOUNT_POINT));
    let mut entries = fs::read_dir(&*output).map_err(|e| with_path(e, output))?;
    if entries.next().is_some() {
        return Err(format!(
            "{} is not empty: a report goes into a directory of its own (--output)",
            output.display()
        ));
    }
    let layer = output.join(layer::MOUNT_POINT);
    fs::create_dir(&layer).map_err(|e| with_path(e, &layer))
}

enum RunOutcome {
    Finished(Box<RunResults>),
    Impossible(String),
    Interrupted,
}

fn start_and_wait(options: &Options) -> RunOutcome {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        if let Err(e) = signal_hook::flag::register(signal, Arc::clone(&stop)) {
            return RunOutcome::Impossible(format!("signals: {e}"));
        }
    }
    let mut child = match self_command("isolate", options)
        .stdout(Stdio::piped())
        .spawn()
    {
        Ok(child) => child,
        Err(e) => return RunOutcome::Impossible(format!("the run: {e}")),
    };
    let out = child.stdout.take();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        let _ = out.map(|o| o.take(16 * 1024 * 1024).read_to_string(&mut text));
        text
    });
    // The run ends by itself before that; this is for a run that hangs.
    let end = Instant::now() + Duration::from_secs(options.limit + 15);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if stop.load(Ordering::Relaxed) => {
                kill(&mut child);
                return RunOutcome::Interrupted;
            }
            Ok(None) if Instant::now() > end => {
                kill(&mut child);
                return RunOutcome::Impossible(format!(
                    "the run did not end within {} s",
                    options.limit + 15
                ));
            }
            Ok(None) => thread::sleep(Duration::from_millis(20)),
            Err(e) => return RunOutcome::Impossible(format!("waiting for the run: {e}")),
        }
    };
    if stop.load(Ordering::Relaxed) {
        return RunOutcome::Interrupted;
    }
    let text = reader.join().unwrap_or_default();
    match serde_json::from_str(text.trim()) {
        Ok(results) if status.success() => RunOutcome::Finished(Box::new(results)),
        _ => RunOutcome::Impossible(format!("the run ended without a report, {status}")),
    }
}

/// Kills the run. The kernel ends every process in its namespaces with it.
fn kill(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
    // The pid namespace is torn down only after the process that we wait for.
    thread::sleep(Duration::from_millis(300));
}

fn snapshot_host() -> files::Snapshot {
    let mut snapshot = files::snapshot(&WATCHED);
    for entry in fs::read_dir("/dev").into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("nvidia") {
            snapshot.extend(files::snapshot(&[&entry.path().to_string_lossy()]));
        }
    }
    snapshot
}

/// Removes the control groups of runs with these pids. The kernel refuses to remove one with processes in it.
fn remove_cgroups(is_wanted: impl Fn(u32) -> bool) {
    let top = Path::new("/sys/fs/cgroup");
    let controllers = fs::read_dir(top)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path());
    for hierarchy in controllers.chain([top.to_owned()]) {
        for entry in fs::read_dir(&hierarchy).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name.strip_prefix(CGROUP).and_then(|p| p.parse().ok());
            if pid.is_some_and(&is_wanted) {
                for _ in 0..20 {
                    remove_cgroup_tree(&entry.path());
                    if !entry.path().exists() {
                        break;
                    }
                    thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }
}

fn remove_cgroup_tree(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_cgroup_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

/// Writes the report as text and as JSON, redacted.
fn write(report: &Report, options: &Options, redactor: &mut Redactor) -> Result<u8, String> {
    let text = redactor.text(&report.text());
    let json = serde_json::to_string_pretty(report).map_err(|e| e.to_string())?;
    let json = redactor.text(&json) + "\n";
    for (name, content) in [("report.txt", &text), ("report.json", &json)] {
        let path = options.output.join(name);
        fs::write(&path, content).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    print!("{}", if options.json { &json } else { &text });
    eprintln!("report: {}", options.output.display());
    Ok(report.exit_code)
}
