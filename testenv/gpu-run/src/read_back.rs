//! Lays a recording out as a host's root and has the product read it, which shows whether it can be a test fixture.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use fake_driver::elf::SharedObject;
use gpu_host::{NvmlUse, Options, Root, discover};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

/// What the product finds on the recorded host.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RecordedHost {
    pub(crate) version: String,
    pub(crate) uuids: Vec<String>,
    pub(crate) libraries: usize,
}

/// Reads a recording. Needs root, for the device nodes.
pub(crate) fn read(recording: &Path) -> Result<RecordedHost, String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    lay_out(recording, dir.path())
        .map_err(|e| format!("laying {} out: {e}", recording.display()))?;
    let root = Root::open(dir.path()).map_err(|e| e.to_string())?;
    let mut options = Options::new(root);
    options.nvml = NvmlUse::No;
    let inventory = discover(&options).map_err(|e| e.to_string())?;
    let Some(driver) = inventory.driver else {
        return Err("no driver is found in it".into());
    };
    Ok(RecordedHost {
        version: driver.version,
        uuids: inventory
            .gpus
            .iter()
            .map(|g| g.uuid.clone().unwrap_or_default())
            .collect(),
        libraries: driver.files.iter().filter(|f| f.soname.is_some()).count(),
    })
}

fn lay_out(recording: &Path, root: &Path) -> std::io::Result<()> {
    for part in ["proc", "sys"] {
        if recording.join(part).is_dir() {
            copy(&recording.join(part), &root.join(part))?;
        }
    }
    let list = fs::read_to_string(recording.join("files.txt"))?;
    for line in list.lines().filter(|l| l.starts_with('/')) {
        if let Some((path, target)) = line.split_once(" -> ") {
            let path = root.join(&path[1..]);
            parent(&path)?;
            symlink(target, path)?;
        } else if let Some((path, size)) = line.split_once("  ") {
            let size = size.trim().parse().map_err(std::io::Error::other)?;
            file(&root.join(&path[1..]), size, &list)?;
        }
    }
    for line in fs::read_to_string(recording.join("nodes.txt"))?.lines() {
        if let ["c", major, minor, mode, _, path] = line.split(' ').collect::<Vec<_>>()[..] {
            let number = |text: &str| text.parse::<u64>().map_err(std::io::Error::other);
            let mode = u32::from_str_radix(mode, 8).map_err(std::io::Error::other)?;
            let path = root.join(path.trim_start_matches('/'));
            parent(&path)?;
            let number = makedev(number(major)?, number(minor)?);
            mknod(
                &path,
                SFlag::S_IFCHR,
                Mode::from_bits_truncate(mode),
                number,
            )?;
        }
    }
    Ok(())
}

fn parent(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// Makes a file of that size. A library or program of the driver is an ELF file, with the SONAME that its links show.
fn file(path: &Path, size: u64, list: &str) -> std::io::Result<()> {
    parent(path)?;
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let file = File::create(path)?;
    let is_program = path.parent().is_some_and(|p| p.ends_with("bin"));
    if let Some((stem, _)) = name.split_once(".so.") {
        let links = list.lines().filter_map(|l| l.split_once(" -> "));
        let mut to_it =
            links.filter(|(from, to)| *to == name && from.contains(&format!("/{stem}.so.")));
        let link = to_it.find_map(|(from, _)| Path::new(from).file_name()?.to_str());
        SharedObject::new(link.unwrap_or(&name), false, size).write(&file)?;
    } else if is_program {
        SharedObject::new(&name, false, size).write(&file)?;
    }
    file.set_len(size)?;
    let mode = if is_program { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
