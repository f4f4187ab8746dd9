//! `nvidia-container-cli`: what it lists, and GPUs put into a container that is there already.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use crate::bundle;
use crate::command::{Ended, kill_group, run, wait};
use crate::judge::{Asks, Measure};
use crate::report::Verdict;
use crate::ways::first;

const CLI: &str = "nvidia-container-cli";
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn info(measure: &Measure) -> (Verdict, Duration) {
    let ended = run(Command::new(CLI).arg("info"), LIMIT);
    let verdict = if !ended.is_success() {
        Verdict::Failed(ended.failure())
    } else if let Some(gpu) = measure.gpus.iter().find(|g| !ended.out.contains(&g.uuid)) {
        Verdict::Failed(format!("does not name GPU {}", gpu.index))
    } else {
        Verdict::Ok
    };
    (verdict, ended.took)
}

pub(crate) fn list() -> (Verdict, Duration) {
    let ended = run(Command::new(CLI).arg("list"), LIMIT);
    let paths: Vec<&str> = ended.out.lines().collect();
    let verdict = if !ended.is_success() {
        Verdict::Failed(ended.failure())
    } else if let Some(missing) = paths.iter().find(|p| !Path::new(p).exists()) {
        Verdict::Failed(format!("lists {missing}, which is not there"))
    } else if !paths.iter().any(|p| p.contains("/libcuda.so")) {
        Verdict::Failed("does not list libcuda.so".into())
    } else {
        Verdict::Ok
    };
    (verdict, ended.took)
}

/// A container made by hand, `configure` on it, and the probe in it.
pub(crate) fn configure(measure: &Measure, image: &Path, probe: &Path) -> (Verdict, Duration) {
    let begun = Instant::now();
    let verdict = match configured(measure, image, probe) {
        Ok(ended) => measure.compute(Asks::First, &ended),
        Err(why) => Verdict::Failed(why),
    };
    (verdict, begun.elapsed())
}

fn configured(measure: &Measure, image: &Path, probe: &Path) -> Result<Ended, String> {
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
    let begun = Instant::now();
    if lines.recv_timeout(LIMIT).ok().as_deref() != Some("ready") {
        kill_group(&mut container);
        return Err("the container made by hand did not start".into());
    }
    let mut command = Command::new(CLI);
    command
        .arg("configure")
        .arg(format!("--pid={}", container.id()));
    command.arg(format!("--device={}", first(&measure.gpus)));
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
    Ok(Ended {
        status,
        out: lines.iter().map(|l| l + "\n").collect(),
        err: String::new(),
        took: begun.elapsed(),
        why_not: status
            .is_none()
            .then(|| "the container made by hand did not end".to_owned()),
    })
}
