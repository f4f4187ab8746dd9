//! `nvidia-container-cli`: checks what it lists, and that it can put GPUs into a container that already runs.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use crate::bundle;
use crate::command::{CommandOutcome, kill_group, run, wait};
use crate::judge::{Baseline, GpuRequest};
use crate::report::Verdict;
use crate::ways::first;

const CLI: &str = "nvidia-container-cli";
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn info(baseline: &Baseline) -> (Verdict, Duration) {
    let outcome = run(Command::new(CLI).arg("info"), LIMIT);
    let verdict = if !outcome.is_success() {
        Verdict::Failed(outcome.failure())
    } else if let Some(gpu) = baseline
        .gpus
        .iter()
        .find(|g| !outcome.out.contains(&g.uuid))
    {
        Verdict::Failed(format!("does not name GPU {}", gpu.index))
    } else {
        Verdict::Ok
    };
    (verdict, outcome.took)
}

pub(crate) fn list() -> (Verdict, Duration) {
    let outcome = run(Command::new(CLI).arg("list"), LIMIT);
    let paths: Vec<&str> = outcome.out.lines().collect();
    let verdict = if !outcome.is_success() {
        Verdict::Failed(outcome.failure())
    } else if let Some(missing) = paths.iter().find(|p| !Path::new(p).exists()) {
        Verdict::Failed(format!("lists {missing}, which is not there"))
    } else if !paths.iter().any(|p| p.contains("/libcuda.so")) {
        Verdict::Failed("does not list libcuda.so".into())
    } else {
        Verdict::Ok
    };
    (verdict, outcome.took)
}

/// Makes a container by hand, runs `configure` on it, and judges what the probe sees in it.
pub(crate) fn configure(baseline: &Baseline, image: &Path, probe: &Path) -> (Verdict, Duration) {
    let start = Instant::now();
    let verdict = match probe_after_configure(baseline, image, probe) {
        Ok(outcome) => baseline.compute(GpuRequest::First, &outcome),
        Err(why) => Verdict::Failed(why),
    };
    (verdict, start.elapsed())
}

fn probe_after_configure(
    baseline: &Baseline,
    image: &Path,
    probe: &Path,
) -> Result<CommandOutcome, String> {
    let root = Path::new("/tmp/by-hand/rootfs");
    bundle::layer(image, root)?;
    let mut container = Command::new(probe)
        .arg("enter")
        .arg(root)
        .args(["nodes", "add-vectors"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .process_group(0)
        .spawn()
        .map_err(|e| format!("{}: {e}", probe.display()))?;
    let (send, lines) = channel();
    let out = container.stdout.take();
    thread::spawn(move || {
        for line in out
            .into_iter()
            .flat_map(|o| BufReader::new(o).lines())
            .map_while(Result::ok)
        {
            let _ = send.send(line);
        }
    });
    let start = Instant::now();
    if lines.recv_timeout(LIMIT).ok().as_deref() != Some("ready") {
        kill_group(&mut container);
        return Err("the container made by hand did not start".into());
    }
    let mut command = Command::new(CLI);
    command
        .arg("configure")
        .arg(format!("--pid={}", container.id()));
    command.arg(format!("--device={}", first(&baseline.gpus)));
    command
        .args(["--compute", "--utility", "--no-cgroups"])
        .arg(root);
    let done = run(&mut command, LIMIT);
    if !done.is_success() {
        kill_group(&mut container);
        return Err(done.failure());
    }
    if let Some(mut input) = container.stdin.take() {
        input.write_all(b"go\n").map_err(|e| e.to_string())?;
    }
    let status = wait(&mut container, LIMIT);
    Ok(CommandOutcome {
        status,
        out: lines.iter().map(|l| l + "\n").collect(),
        err: String::new(),
        took: start.elapsed(),
        error: status
            .is_none()
            .then(|| "the container made by hand did not end".to_owned()),
    })
}
