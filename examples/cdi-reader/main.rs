//! Reads the CDI specs of a host, lists their devices, and applies some of them to a config.json,
//! as a container engine does. Of this project it needs the crate `cdi` alone.

use std::error::Error;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cdi::{LazyJson, NodeStat, QualifiedName, Registry, SPEC_DIRS};
use nix::sys::stat::{major, minor};

const USAGE: &str =
    "Usage: cdi-reader [--spec-dir DIR]... list | apply VENDOR/CLASS=DEVICE... <config.json";

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("cdi-reader: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Vec<String>) -> Result<(), Box<dyn Error>> {
    let mut args = args.into_iter().peekable();
    let mut dirs = Vec::new();
    while args.next_if(|arg| arg == "--spec-dir").is_some() {
        dirs.push(PathBuf::from(args.next().ok_or(USAGE)?));
    }
    if dirs.is_empty() {
        dirs.extend(SPEC_DIRS.map(PathBuf::from));
    }
    let registry = Registry::load_dirs(&dirs);
    // A file that is broken hides none of the others.
    for (path, why) in registry.errors() {
        eprintln!("cdi-reader: {}: {why}", path.display());
    }
    let command = args.next();
    match command.as_deref() {
        Some("list") => {
            list(&registry);
            Ok(())
        }
        Some("apply") => {
            let names: Result<Vec<QualifiedName>, _> = args.map(|name| name.parse()).collect();
            apply(&registry, &names?)
        }
        _ => Err(USAGE.into()),
    }
}

/// One line a device: its name, and the file that has it. A name that two files of equal rank have
/// cannot be used.
fn list(registry: &Registry) {
    for (name, found) in registry.devices() {
        match found {
            Ok(path) => println!("{name} {}", path.display()),
            Err(why) => println!("{name} cannot be used: {why}"),
        }
    }
}

fn apply(registry: &Registry, names: &[QualifiedName]) -> Result<(), Box<dyn Error>> {
    let mut text = Vec::new();
    io::stdin().read_to_end(&mut text)?;
    let mut config = LazyJson::parse(&text)?;
    // All of them or none: after an error the config is as it was.
    registry.inject(&mut config, names, &stat)?;
    println!("{}", config.text());
    Ok(())
}

/// What a device node that a spec only names is on this host.
fn stat(path: &Path) -> io::Result<NodeStat> {
    let metadata = std::fs::metadata(path)?;
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => 'c',
        kind if kind.is_block_device() => 'b',
        kind if kind.is_fifo() => 'p',
        _ => return Err(io::Error::other("not a device node")),
    };
    Ok(NodeStat {
        kind,
        major: i64::try_from(major(metadata.rdev())).map_err(io::Error::other)?,
        minor: i64::try_from(minor(metadata.rdev())).map_err(io::Error::other)?,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    })
}
