//! The life of one container, from create to delete.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::bundle::{self, Ready, Rootfs};
use crate::host::here;
use crate::program::context;
use crate::protocol::Life;

/// The id includes this host's: two runs on a machine share its cgroups.
fn id() -> String {
    format!("bench-{}", std::process::id())
}

/// Runs it; `before` is the command that each call of the runtime is wrapped in.
pub(crate) fn live(ready: &Ready, before: &dyn Fn(&str) -> Vec<String>) -> Result<Life, String> {
    live_into(ready, before, Path::new("/dev/null"))
}

/// The same, with the container's output in a file.
pub(crate) fn live_into(
    ready: &Ready,
    before: &dyn Fn(&str) -> Vec<String>,
    output: &Path,
) -> Result<Life, String> {
    let rootfs = Rootfs::mount(ready.image)?;
    bundle::put(&ready.config)?;
    let pid_file = here("pid");
    let mut create = command(ready, before, "create");
    create
        .arg("--bundle")
        .arg(bundle::path())
        .arg("--pid-file")
        .arg(&pid_file);
    let mut start = command(ready, before, "start");
    let mut delete = command(ready, before, "delete");
    let cpu = processor_time()?;
    let began = Instant::now();
    call(create.arg(id()), output)?;
    let created = began.elapsed();
    let ended = started(&mut start, &pid_file, output);
    // Whatever happened, the container does not stay.
    let deleted = call(delete.arg("--force").arg(id()), output);
    let whole = began.elapsed();
    ended.and(deleted)?;
    let cpu = processor_time()? - cpu;
    drop(rootfs);
    Ok(Life {
        cpu,
        whole: whole.as_secs_f64() * 1000.0,
        create: created.as_secs_f64() * 1000.0,
    })
}

/// Processor time of all children that have ended, in milliseconds.
fn processor_time() -> Result<f64, String> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(context("processor time"))?;
    let sum = usage.user_time() + usage.system_time();
    #[allow(clippy::cast_precision_loss, reason = "microseconds of days")]
    Ok(sum.num_microseconds() as f64 / 1000.0)
}

fn started(start: &mut Command, pid_file: &Path, output: &Path) -> Result<(), String> {
    let pid = fs::read_to_string(pid_file).map_err(context("the pid file"))?;
    let pid = pid.trim().parse().map_err(context("the pid file"))?;
    call(start.arg(id()), output)?;
    // The runtime that made it has ended, so the container is our child.
    match waitpid(Pid::from_raw(pid), None) {
        Ok(WaitStatus::Exited(_, 0)) => Ok(()),
        other => Err(format!("the container ended with {other:?}")),
    }
}

fn command(ready: &Ready, before: &dyn Fn(&str) -> Vec<String>, verb: &str) -> Command {
    let before = before(verb);
    let mut command = match before.split_first() {
        Some((program, rest)) => {
            let mut command = Command::new(program);
            command.args(rest).arg(&ready.runtime);
            command
        }
        None => Command::new(&ready.runtime),
    };
    command.args(&ready.arguments).arg(verb);
    command.envs(ready.environment.iter().map(|(k, v)| (k, v)));
    command
}

fn call(command: &mut Command, output: &Path) -> Result<(), String> {
    let errors = here("errors");
    let to = File::create(&errors).map_err(context("a file for errors"))?;
    let out = File::options().append(true).create(true).open(output);
    let status = command
        .stdin(Stdio::null())
        .stdout(out.map_err(context("a file for output"))?)
        .stderr(to)
        .status()
        .map_err(|e| format!("{command:?}: {e}"))?;
    if status.success() {
        return Ok(());
    }
    let why = fs::read_to_string(&errors).unwrap_or_default();
    Err(format!("{command:?}: {status}: {}", why.trim()))
}
