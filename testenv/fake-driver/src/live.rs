//! A running host's proc and sysfs cannot be written, so the driver's part is mounted over them, together with what
//! was there before.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::describe::Description;
use crate::kernel::{device_lines, pci_files, proc_files};

const STATE: &str = "/run/fake-driver";
const PROC_DRIVER: &str = "/proc/driver";
const PROC_DEVICES: &str = "/proc/devices";
const PCI: &str = "/sys/bus/pci/devices";

/// Mounts the driver's part of proc and sysfs on this host.
pub fn mount_trees(description: &Description) -> io::Result<()> {
    let here = Path::new(STATE);
    fs::create_dir_all(here)?;
    let mut devices = fs::read_to_string(PROC_DEVICES)?;
    if let Some(at) = devices.find("\nBlock devices:") {
        devices.insert_str(at, &format!("\n{}", device_lines().trim_end()));
    }
    let file = here.join("devices");
    fs::write(&file, devices)?;
    bind(&file, PROC_DEVICES)?;

    let driver = here.join("driver");
    copy_files(Path::new(PROC_DRIVER), &driver)?;
    for (path, content) in proc_files(description) {
        // `driver/…` relative to the directory of that name.
        write(&here.join(path), &content)?;
    }
    bind(&driver, PROC_DRIVER)?;

    let pci = here.join("pci");
    fs::create_dir_all(&pci)?;
    // Links in sysfs are relative, so this tree has the same depth as the one that it is mounted over.
    if let Ok(entries) = fs::read_dir(PCI) {
        for entry in entries.flatten() {
            let target = fs::read_link(entry.path())?;
            symlink(target, pci.join(entry.file_name()))?;
        }
        for (path, content) in pci_files(description) {
            write(&pci.join(path), &content)?;
        }
        bind(&pci, PCI)?;
    }
    Ok(())
}

/// Unmounts them.
pub fn unmount_trees() {
    for place in [PROC_DEVICES, PROC_DRIVER, PCI] {
        let is_ours = fs::read_to_string("/proc/self/mountinfo")
            .is_ok_and(|m| m.lines().any(|l| l.split(' ').nth(4) == Some(place)));
        if is_ours && umount2(place, MntFlags::MNT_DETACH).is_err() {
            eprintln!("fake-driver: {place} stays mounted");
        }
    }
    if let Err(e) = fs::remove_dir_all(STATE)
        && e.kind() != io::ErrorKind::NotFound
    {
        eprintln!("fake-driver: {STATE}: {e}");
    }
}

fn bind(from: &Path, to: &str) -> io::Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(())
}

fn write(path: &Path, content: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, content)
}

fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)?.flatten() {
        let path: PathBuf = entry.path();
        if path.is_file() {
            // The size of a procfs file is always 0, and some files cannot be read; those are left out.
            if let Ok(content) = fs::read(&path) {
                fs::write(to.join(entry.file_name()), content)?;
            }
        }
    }
    Ok(())
}
