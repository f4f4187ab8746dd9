//! `gpu-container refresh`: writes the CDI spec and the other files that describe this host's GPUs,
//! at boot and whenever a driver or a GPU appears. Run by `gpusetup-cdi.service` and by the scripts
//! of other init systems.
//!
//! It needs no other program, and does nothing on a host without a GPU. If gpusetup is installed,
//! gpusetup writes the files, because it can ask NVML (for UUIDs and profiles of MIG devices) and
//! records what it wrote in its receipt.

mod coming;
mod last_policy;
mod others;
mod write;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use gpu_host::{Freshness, Inventory, NvmlUse, Options, Root, discover, freshness};
use gpu_inject::Error;
use gpu_inject::generate::{self, host_files, inventory_store};
use gpu_inject::policy::Policy;

use crate::exit::ExitCode;
use crate::log::{self, Advised};

const USAGE: &str = "\
Usage: gpu-container refresh [--root DIR] [--wait | --settle]

Writes the CDI spec and the stored inventory where they are stale, makes device nodes and the
links in /dev/char that are missing. A spec of another tool's is left.

  --root DIR  act on a tree
  --wait      only wait until udev is done with GPUs whose driver is being loaded
  --settle    go on until the GPUs have not changed for a moment: of a storm of events, the last counts";

const GPUSETUP: &str = "/usr/bin/gpusetup";
/// gpusetup's exit code if another run of it is in progress. gpusetup has then left a mark, by which that run starts a refresh
/// when it ends. Waiting here could block it: it may be restarting an engine that is ordered after our unit.
const LOCKED: i32 = 5;
/// How long the host must be unchanged before a run with `--settle` ends.
const QUIET: Duration = Duration::from_millis(200);
/// Maximum rounds of a run with `--settle`. If the host still changes then, the next event starts another run.
const ROUNDS: u32 = 60;

#[derive(Debug, PartialEq, Eq)]
struct RefreshOptions {
    root: PathBuf,
    only_wait: bool,
    settle: bool,
}

/// Runs the program with these arguments.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let options = match read(args) {
        Ok(Some(options)) => options,
        Ok(None) => {
            log::tell(USAGE);
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            say(&format!("{why}\n\n{USAGE}"));
            return ExitCode::from(4);
        }
    };
    match carry_out(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            say(&Advised(&e).to_string());
            ExitCode::FAILURE
        }
    }
}

fn read(args: &[OsString]) -> Result<Option<RefreshOptions>, String> {
    let mut options = RefreshOptions {
        root: "/".into(),
        only_wait: false,
        settle: false,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.to_str().unwrap_or_default() {
            "--wait" => options.only_wait = true,
            "--settle" => options.settle = true,
            "--root" => options.root = args.next().ok_or("--root needs a directory")?.into(),
            "--help" | "-h" => return Ok(None),
            _ => return Err(format!("{}: no such option", arg.display())),
        }
    }
    Ok(Some(options))
}

fn say(text: &str) {
    log::say(&format!("gpu-container: {text}"));
}

/// What the result of a run depends on: the inventory's freshness, and the majors of the drivers,
/// some of which have a module of their own.
fn state(root: &Root, driver_root: &Path) -> (Freshness, Vec<u8>) {
    let numbers = root.read("/proc/devices").unwrap_or_default();
    (freshness(root, driver_root), numbers)
}

fn carry_out(options: &RefreshOptions) -> Result<(), Error> {
    let root = Root::open(&options.root).map_err(Error::host(&options.root))?;
    // An invalid policy must not disturb the boot. It is an error when a container is started.
    let policy = Policy::load(&root).unwrap_or_else(|e| {
        say(&format!("{e}; the defaults are taken"));
        Policy::default()
    });
    let driver_root = &policy.driver_root;
    if options.only_wait {
        coming::wait(&root, driver_root);
        return Ok(());
    }
    if let Some(text) = last_policy::keep(&root) {
        say(&text);
    }
    for _ in 0..ROUNDS {
        let before = state(&root, driver_root);
        refresh_once(&root, driver_root)?;
        if !options.settle {
            break;
        }
        sleep(QUIET);
        if state(&root, driver_root) == before {
            break;
        }
    }
    Ok(())
}

fn refresh_once(root: &Root, driver_root: &Path) -> Result<(), Error> {
    let discovered = discover_host(root, driver_root)?;
    if discovered.driver.is_none() {
        say("no driver is loaded: nothing to describe");
        return Ok(());
    }
    for node in host_files::nodes(&discovered) {
        // A node that cannot be made, for instance in a container, is in the spec by number.
        if discovered.missing_nodes.contains(&node.host_path)
            && let Err(e) = host_files::make_node(root, node)
        {
            say(&format!("{}: {e}", node.host_path.display()));
        }
    }
    if root.is_host() && root.exists(GPUSETUP) {
        return run_gpusetup(driver_root);
    }
    // An inventory stored by gpusetup has more facts, so it is used while it is fresh.
    let inventory = inventory_store::load(root)
        .filter(|stored| stored.driver_root == driver_root && all_files_exist(root, stored))
        .map_or_else(|| discover_host(root, driver_root), Ok)?;
    let other_tool = others::who_describes(root);
    if let Some(who) = &other_tool {
        say(&format!("{who}: left as it is"));
    }
    for (path, text) in host_files::files(root, &inventory)? {
        if path == generate::SPEC_PATH && other_tool.is_some() {
            continue;
        }
        if write::file(root, Path::new(path), &text).map_err(Error::host(Path::new(path)))? {
            log::tell(&format!("wrote {path}"));
        }
    }
    for node in host_files::nodes(&inventory).filter(|n| root.exists(&n.host_path)) {
        let (path, target) = host_files::char_link(node);
        // An existing link may be another tool's; it serves the same purpose.
        if root.exists(&path) {
            continue;
        }
        if let Err(e) = write::link(root, &path, &target) {
            say(&format!("{}: {e}", path.display()));
        }
    }
    Ok(())
}

fn discover_host(root: &Root, driver_root: &Path) -> Result<Inventory, Error> {
    let options = Options {
        driver_root: driver_root.to_owned(),
        // A static program cannot load NVML, which would also make nodes itself.
        nvml: NvmlUse::No,
        ..Options::new(root.clone())
    };
    Ok(discover(&options)?)
}

/// Whether all files of the inventory exist. A driver update can remove some without changing the inventory's freshness.
fn all_files_exist(root: &Root, inventory: &Inventory) -> bool {
    let files = inventory.driver.iter().flat_map(|d| &d.files);
    files.into_iter().all(|f| root.exists(&f.host_path))
}

fn run_gpusetup(driver_root: &Path) -> Result<(), Error> {
    let failed = |source| Error::Host {
        path: GPUSETUP.into(),
        source,
    };
    let mut command = Command::new(GPUSETUP);
    command.args(["--quiet", "--driver-root"]).arg(driver_root);
    let status = command.args(["cdi", "refresh"]).status().map_err(failed)?;
    match status.code() {
        Some(0 | LOCKED) => Ok(()),
        _ => Err(failed(io::Error::other(format!("cdi refresh: {status}")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Option<RefreshOptions>, String> {
        read(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_parsed() {
        let expected = RefreshOptions {
            root: "/t".into(),
            only_wait: false,
            settle: true,
        };
        assert_eq!(parsed(&["--settle", "--root", "/t"]), Ok(Some(expected)));
        assert_eq!(parsed(&["-h"]), Ok(None));
        assert!(parsed(&["--root"]).is_err());
        assert!(parsed(&["now"]).is_err());
    }
}
