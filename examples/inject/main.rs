//! Gives GPUs to a container that exists: one made by hand here, a mount namespace with a root
//! file system of three directories. Shows what is mounted in it afterwards. Needs root.

use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};

use gpu_inject::edits::Edits;
use gpu_inject::host::{GpuHost, HostOptions};
use gpu_inject::live::{self, Pidfd, Target};
use serde_json::json;

const USAGE: &str = "Usage: inject [--config FILE] ROOTFS DEVICES

Makes a container of the empty directory ROOTFS, gives it DEVICES as NVIDIA_VISIBLE_DEVICES would
(0, all, a UUID), and shows what is mounted in it. FILE is a config.toml instead of the host's.";

/// The container: a tmpfs for its root file system, which goes away with its mount namespace. It
/// says when that is there, and ends when its standard input does.
const CONTAINER: &str =
    r#"mount -t tmpfs tmpfs "$1" && mkdir "$1/dev" "$1/etc" "$1/usr" && echo ready && exec cat"#;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("inject: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1).peekable();
    let mut options = HostOptions::default();
    if args.next_if(|arg| arg == "--config").is_some() {
        options.config = Some(args.next().ok_or(USAGE)?.into());
    }
    let rootfs = PathBuf::from(args.next().ok_or(USAGE)?).canonicalize()?;
    let devices = args.next().ok_or(USAGE)?;
    if fs::read_dir(&rootfs)?.next().is_some() {
        return Err(format!("{} is not empty", rootfs.display()).into());
    }

    let edits = plan(&options, &devices)?;
    let mut container = Container::start(&rootfs)?;
    let pidfd = Pidfd::open(container.pid()?)?;
    let mut target = Target::of_process(&pidfd, rootfs.clone())?;
    // It has no cgroup of its own that could be told of devices.
    target.no_cgroups = true;
    let notes = live::inject(&target, &edits)?;
    for warning in notes.warnings {
        eprintln!("inject: {warning}");
    }
    // `inject` enters the container's mount namespace and stays there, so this is its table.
    show(&rootfs)?;
    container.end()
}

/// What a container gets that asks for these devices by its environment.
fn plan(options: &HostOptions, devices: &OsStr) -> Result<Edits, Box<dyn Error>> {
    let devices = devices.to_str().ok_or("DEVICES: not UTF-8")?;
    let env = [
        format!("NVIDIA_VISIBLE_DEVICES={devices}"),
        "NVIDIA_DRIVER_CAPABILITIES=compute,utility".to_owned(),
    ];
    let host = GpuHost::load(options)?;
    let request = host.request_of(&json!({"process": {"env": env}}))?;
    Ok(host.plan(&request)?)
}

struct Container {
    process: Child,
    input: Option<ChildStdin>,
}

impl Container {
    fn start(rootfs: &Path) -> Result<Self, Box<dyn Error>> {
        let mut process = Command::new("unshare")
            .args(["--mount", "--propagation", "private"])
            .args(["sh", "-c", CONTAINER, "container"])
            .arg(rootfs)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = process.stdin.take();
        let mut line = String::new();
        if let Some(output) = process.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        if line != "ready\n" {
            return Err(format!("no container: {}", process.wait()?).into());
        }
        Ok(Self { process, input })
    }

    fn pid(&self) -> Result<i32, Box<dyn Error>> {
        Ok(i32::try_from(self.process.id())?)
    }

    fn end(&mut self) -> Result<(), Box<dyn Error>> {
        drop(self.input.take());
        self.process.wait()?;
        Ok(())
    }
}

/// Every mount below the root file system, as the container will name it, and the loader's cache.
fn show(rootfs: &Path) -> Result<(), Box<dyn Error>> {
    for line in fs::read_to_string("/proc/self/mountinfo")?.lines() {
        // proc(5): the fifth field is the mount point.
        let point = line.split(' ').nth(4).map(Path::new);
        if let Some(Ok(inner)) = point.map(|p| p.strip_prefix(rootfs)) {
            println!("/{}", inner.display());
        }
    }
    if rootfs.join("etc/ld.so.cache").exists() {
        println!("/etc/ld.so.cache is written");
    }
    Ok(())
}
