//! `gpu-container refresh`: describes this host's GPUs to engines, at boot and whenever a driver
//! or a GPU comes. What `gpusetup-cdi.service` and the scripts of other init systems run.
//!
//! It needs nothing but this program, and no GPU: without one it is done at once. Where gpusetup
//! is installed, that writes the files, since it can ask NVML (UUIDs and profiles of MIG devices)
//! and keeps its receipt.

mod coming;
mod others;
mod write;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use gpu_host::{Freshness, Inventory, Options, Root, discover, freshness};
use gpu_inject::Error;
use gpu_inject::generate::{self, host_files, inventory_store};
use gpu_inject::policy::Policy;

use crate::exit::ExitCode;
use crate::log;

const USAGE: &str = "\
Usage: gpu-container refresh [--root DIR] [--wait | --settle]

Writes the CDI spec and the stored inventory where they are stale, makes device nodes and the
links in /dev/char that are missing. A spec of another tool's is left.

  --root DIR  act on a tree
  --wait      only wait until udev is done with GPUs whose driver is being loaded
  --settle    go on until the GPUs have not changed for a moment: of a storm of events, the last counts";

const GPUSETUP: &str = "/usr/bin/gpusetup";
/// gpusetup's exit code where another run of its goes on, which writes these files too.
const LOCKED: i32 = 5;
/// How long nothing may change.
const QUIET: Duration = Duration::from_millis(200);
/// A host that changes for longer is described by the next event's run.
const ROUNDS: u32 = 60;

#[derive(Debug, PartialEq, Eq)]
struct Asked {
    root: PathBuf,
    only_wait: bool,
    settle: bool,
}

/// Runs with these arguments.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let asked = match read(args) {
        Ok(Some(asked)) => asked,
        Ok(None) => {
            log::tell(USAGE);
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            say(&format!("{why}\n\n{USAGE}"));
            return ExitCode::from(4);
        }
    };
    match carry_out(&asked) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            say(&e.to_string());
            ExitCode::FAILURE
        }
    }
}

fn read(args: &[OsString]) -> Result<Option<Asked>, String> {
    let mut asked = Asked {
        root: "/".into(),
        only_wait: false,
        settle: false,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.to_str().unwrap_or_default() {
            "--wait" => asked.only_wait = true,
            "--settle" => asked.settle = true,
            "--root" => asked.root = args.next().ok_or("--root needs a directory")?.into(),
            "--help" | "-h" => return Ok(None),
            _ => return Err(format!("{}: no such option", arg.display())),
        }
    }
    Ok(Some(asked))
}

fn say(text: &str) {
    log::say(&format!("gpu-container: {text}"));
}

/// What a run depends on: the inventory's key, and the drivers' numbers, some of which come
/// with a module of their own.
fn state(root: &Root, driver_root: &Path) -> (Freshness, Vec<u8>) {
    let numbers = root.read("/proc/devices").unwrap_or_default();
    (freshness(root, driver_root), numbers)
}

fn carry_out(asked: &Asked) -> Result<(), Error> {
    let root = Root::open(&asked.root).map_err(Error::host(&asked.root))?;
    // A mistake in it is told at the start of a container; it must not keep a host from booting.
    let policy = Policy::load(&root).unwrap_or_else(|e| {
        say(&format!("{e}; the defaults are taken"));
        Policy::default()
    });
    let driver_root = &policy.driver_root;
    if asked.only_wait {
        coming::wait(&root, driver_root);
        return Ok(());
    }
    for _ in 0..ROUNDS {
        let before = state(&root, driver_root);
        once(&root, driver_root)?;
        if !asked.settle {
            break;
        }
        sleep(QUIET);
        if state(&root, driver_root) == before {
            break;
        }
    }
    Ok(())
}

fn once(root: &Root, driver_root: &Path) -> Result<(), Error> {
    let found = look(root, driver_root)?;
    if found.driver.is_none() {
        say("no driver is loaded: nothing to describe");
        return Ok(());
    }
    for node in host_files::nodes(&found) {
        // A node that cannot be made, in a container for instance, is in the spec by its number.
        if found.missing_nodes.contains(&node.host_path)
            && let Err(e) = host_files::make_node(root, node)
        {
            say(&format!("{}: {e}", node.host_path.display()));
        }
    }
    if root.is_host() && root.exists(GPUSETUP) {
        return by_gpusetup(driver_root);
    }
    // What gpusetup has stored knows more, and is kept while it holds.
    let inventory = inventory_store::load(root)
        .filter(|stored| stored.driver_root == driver_root && has_its_files(root, stored))
        .map_or_else(|| look(root, driver_root), Ok)?;
    let left = others::who_describes(root);
    if let Some(who) = &left {
        say(&format!("{who}: left as it is"));
    }
    for (path, text) in host_files::files(root, &inventory)? {
        if path == generate::SPEC_PATH && left.is_some() {
            continue;
        }
        if write::file(root, Path::new(path), &text).map_err(Error::host(Path::new(path)))? {
            log::tell(&format!("wrote {path}"));
        }
    }
    for node in host_files::nodes(&inventory).filter(|n| root.exists(&n.host_path)) {
        let (path, target) = host_files::char_link(node);
        // Another tool's link to the same device is as good.
        if root.exists(&path) {
            continue;
        }
        if let Err(e) = write::link(root, &path, &target) {
            say(&format!("{}: {e}", path.display()));
        }
    }
    Ok(())
}

fn look(root: &Root, driver_root: &Path) -> Result<Inventory, Error> {
    let options = Options {
        driver_root: driver_root.to_owned(),
        // NVML makes nodes of its own when it is asked, and is not in a static program.
        nvml: false,
        ..Options::new(root.clone())
    };
    Ok(discover(&options)?)
}

/// A driver's update can leave all that the inventory's key looks at as it was.
fn has_its_files(root: &Root, inventory: &Inventory) -> bool {
    let files = inventory.driver.iter().flat_map(|d| &d.files);
    files.into_iter().all(|f| root.exists(&f.host_path))
}

fn by_gpusetup(driver_root: &Path) -> Result<(), Error> {
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

    fn asked(words: &[&str]) -> Result<Option<Asked>, String> {
        read(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read() {
        let wanted = Asked {
            root: "/t".into(),
            only_wait: false,
            settle: true,
        };
        assert_eq!(asked(&["--settle", "--root", "/t"]), Ok(Some(wanted)));
        assert_eq!(asked(&["-h"]), Ok(None));
        assert!(asked(&["--root"]).is_err());
        assert!(asked(&["now"]).is_err());
    }
}
