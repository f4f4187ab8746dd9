//! The recording: what the driver shows in /proc and /sys, its files by name and size, and its device nodes. It can
//! be a test fixture, laid out as `crates/gpu-host/tests/h200` is.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::redact::Redactor;
use crate::report::Host;

/// The most that is copied of one file, in bytes; a real `mig-minors` has 109 kB.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
const MAX_FILES: usize = 2000;
/// The most lines of files.txt.
const MAX_LISTED: usize = 5000;

/// Copied whole where they exist.
const COPIED: [&str; 7] = [
    "proc/devices",
    "proc/driver/nvidia",
    "proc/driver/nvidia-caps",
    "proc/driver/nvidia-nvswitch",
    "proc/driver/nvidia-nvlink",
    "sys/module/nvidia/version",
    "sys/module/nvidia/initstate",
];
/// Files that are copied of each of NVIDIA's PCI devices.
const PCI_ATTRIBUTES: [&str; 6] = [
    "vendor",
    "device",
    "class",
    "subsystem_vendor",
    "subsystem_device",
    "numa_node",
];

/// Directories of libraries, and below them (`LIBRARY_SUBDIRECTORIES`) the directories that drivers use.
const LIBRARIES: [&str; 7] = [
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib64",
    "usr/lib",
    "usr/lib/i386-linux-gnu",
    "usr/lib32",
    "usr/lib/wsl/lib",
];
const LIBRARY_SUBDIRECTORIES: [&str; 6] = [
    "",
    "nvidia",
    "nvidia/current",
    "vdpau",
    "gbm",
    "xorg/modules/drivers",
];
const PROGRAMS: [&str; 3] = ["usr/bin", "usr/sbin", "usr/local/bin"];
/// Below these everything whose name shows that it is the driver's, some levels deep.
const DATA: [&str; 9] = [
    "etc/vulkan",
    "etc/glvnd",
    "etc/egl",
    "etc/OpenCL",
    "usr/share/vulkan",
    "usr/share/glvnd",
    "usr/share/egl",
    "usr/share/nvidia",
    "usr/lib/firmware/nvidia",
];
/// Below these everything: they belong to a driver alone.
const ROOTS: [&str; 3] = ["usr/local/nvidia", "opt/nvidia", "run/nvidia/driver"];

pub(crate) struct Recorder<'a> {
    root: &'a Path,
    to: &'a Path,
    redactor: &'a mut Redactor,
    copied: usize,
    /// What was left out; the recording's README lists it.
    left_out: Vec<String>,
}

/// Records the host below `root` in the empty directory `to`.
pub(crate) fn record(
    root: &Path,
    to: &Path,
    host: &Host,
    date: &str,
    redactor: &mut Redactor,
) -> Result<(), String> {
    let mut recorder = Recorder {
        root,
        to,
        redactor,
        copied: 0,
        left_out: Vec::new(),
    };
    for path in COPIED {
        recorder.copy(Path::new(path), 0);
    }
    recorder.pci();
    recorder.write("nodes.txt", &nodes(&root.join("dev")))?;
    let version = host.driver.as_deref().unwrap_or_default();
    let files = recorder.files(version);
    recorder.write("files.txt", &files)?;
    let left_out = recorder
        .left_out
        .iter()
        .map(|l| format!("\nLeft out: {l}."))
        .collect::<String>();
    let gpus: Vec<&str> = host.gpus.iter().map(|g| g.model.as_str()).collect();
    let text = format!(
        "# A recorded host with {}\n\nRecorded on {date} by `testenv/gpu`: {}, kernel {}, {}, kernel module {version}. UUIDs and \
         names are replaced unless it was asked to keep them. `proc/` and `sys/` are what the driver shows there; `files.txt` \
         has the driver's files with sizes or link targets, `nodes.txt` its device nodes with type, numbers, mode and owner, \
         `scripts/` what stands in the place of the driver's programs where that is a script.\n{left_out}",
        if gpus.is_empty() {
            "no GPU".to_owned()
        } else {
            gpus.join(", ")
        },
        host.distribution,
        host.kernel,
        host.architecture,
    );
    recorder.write("README.md", &text)
}

impl Recorder<'_> {
    fn write(&mut self, name: &str, text: &str) -> Result<(), String> {
        let to = self.to.join(name);
        let with_path = |e: std::io::Error| format!("{}: {e}", to.display());
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(with_path)?;
        }
        fs::write(&to, self.redactor.text(text)).map_err(with_path)
    }

    /// Copies a file or a tree of files.
    fn copy(&mut self, path: &Path, depth: usize) {
        let from = self.root.join(path);
        let Ok(metadata) = from.metadata() else {
            return;
        };
        if metadata.is_dir() && depth < 8 {
            let entries = fs::read_dir(&from).into_iter().flatten().flatten();
            let mut names: Vec<_> = entries.map(|e| e.file_name()).collect();
            names.sort();
            for name in names {
                self.copy(&path.join(name), depth + 1);
            }
        } else if metadata.is_file() {
            if self.copied >= MAX_FILES {
                return self.leave_out(path, "there are too many files");
            }
            match read_bounded(&from) {
                Err(e) => self.leave_out(path, &e),
                Ok(text) => {
                    self.copied += 1;
                    if let Err(e) = self.write(&path.to_string_lossy(), &text) {
                        self.leave_out(path, &e);
                    }
                }
            }
        }
    }

    fn leave_out(&mut self, path: &Path, why: &str) {
        if self.left_out.len() < 50 {
            self.left_out.push(format!("/{}: {why}", path.display()));
        }
    }

    fn pci(&mut self) {
        let at = Path::new("sys/bus/pci/devices");
        let entries = fs::read_dir(self.root.join(at))
            .into_iter()
            .flatten()
            .flatten();
        let mut names: Vec<_> = entries.map(|e| e.file_name()).collect();
        names.sort();
        for name in names {
            let device = at.join(name);
            let vendor =
                fs::read_to_string(self.root.join(&device).join("vendor")).unwrap_or_default();
            if vendor.trim() != "0x10de" {
                continue;
            }
            for file in PCI_ATTRIBUTES {
                self.copy(&device.join(file), 0);
            }
            // Only the names, which show the card and render node of this GPU.
            let nodes = fs::read_dir(self.root.join(&device).join("drm"))
                .into_iter()
                .flatten()
                .flatten();
            for node in nodes {
                let node = device.join("drm").join(node.file_name());
                let _ = fs::create_dir_all(self.to.join(node));
            }
        }
    }

    /// The text of files.txt. Writes the scripts as well.
    fn files(&mut self, version: &str) -> String {
        let mut listed = BTreeSet::new();
        for dir in self.library_directories() {
            self.list(&dir, 0, &|name| is_drivers(name, version), &mut listed);
        }
        for dir in PROGRAMS {
            self.list(
                Path::new(dir),
                0,
                &|name| name.starts_with("nvidia-"),
                &mut listed,
            );
        }
        for dir in DATA {
            let is_data = |name: &str| {
                is_drivers(name, version) || dir.ends_with("/nvidia") || name.starts_with("gsp_")
            };
            self.list(Path::new(dir), 4, &is_data, &mut listed);
        }
        for dir in ROOTS {
            self.list(Path::new(dir), 6, &|_| true, &mut listed);
        }
        if listed.len() > MAX_LISTED {
            self.left_out.push(format!(
                "{} of {} files of files.txt",
                listed.len() - MAX_LISTED,
                listed.len()
            ));
        }
        let mut text =
            format!("# The files of a driver {version}, with sizes in bytes or link targets.\n");
        for path in listed.into_iter().take(MAX_LISTED) {
            let from = self.root.join(&path);
            let Ok(metadata) = from.symlink_metadata() else {
                continue;
            };
            let name = format!("/{}", path.display());
            if metadata.is_symlink() {
                text += &format!(
                    "{name} -> {}\n",
                    fs::read_link(&from).unwrap_or_default().display()
                );
            } else {
                text += &format!("{name}  {}\n", metadata.len());
                self.script(&path, &from, metadata.len());
            }
        }
        text
    }

    /// Copies what stands in the place of one of the driver's programs, if that is a script.
    fn script(&mut self, path: &Path, from: &Path, size: u64) {
        let is_program = path
            .parent()
            .is_some_and(|p| p.ends_with("bin") || p.ends_with("sbin"));
        if !is_program || size > 64 * 1024 {
            return;
        }
        if let Ok(text) = read_bounded(from)
            && text.starts_with("#!")
        {
            let _ = self.write(&format!("scripts/{}", path.display()), &text);
        }
    }

    fn library_directories(&self) -> Vec<PathBuf> {
        let mut seen = BTreeSet::new();
        let all = LIBRARIES.iter().flat_map(|l| {
            LIBRARY_SUBDIRECTORIES
                .iter()
                .map(move |b| Path::new(l).join(b))
        });
        all.filter(|dir| {
            self.root
                .join(dir)
                .canonicalize()
                .is_ok_and(|real| seen.insert(real))
        })
        .collect()
    }

    fn list(
        &self,
        dir: &Path,
        depth: usize,
        is_wanted: &dyn Fn(&str) -> bool,
        listed: &mut BTreeSet<PathBuf>,
    ) {
        for entry in fs::read_dir(self.root.join(dir))
            .into_iter()
            .flatten()
            .flatten()
        {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let path = dir.join(&name);
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_dir() && depth > 0 {
                self.list(&path, depth - 1, is_wanted, listed);
            } else if !kind.is_dir() && is_wanted(&name) && listed.len() <= 2 * MAX_LISTED {
                listed.insert(path);
            }
        }
    }
}

fn is_drivers(name: &str, version: &str) -> bool {
    let prefixes = [
        "libcuda.",
        "libcudadebugger.",
        "libnvcuvid.",
        "libnvoptix.",
        "nvoptix",
    ];
    name.contains("nvidia")
        || prefixes.iter().any(|p| name.starts_with(p))
        || (!version.is_empty() && name.ends_with(&format!(".so.{version}")))
}

/// Reads a file with a limit, since the size that procfs shows is 0.
fn read_bounded(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|e| e.to_string())?;
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| e.to_string())?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("it has more than {MAX_FILE_BYTES} bytes"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The driver's device nodes, one a line: `c 195 0 666 0:0 /dev/nvidia0`.
fn nodes(dev: &Path) -> String {
    let mut lines = BTreeSet::new();
    let is_gpus =
        |n: &str| n.starts_with("nvidia") || ["dri", "dxg", "gdrdrv", "infiniband"].contains(&n);
    for entry in fs::read_dir(dev).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_gpus) {
            add_nodes(dev, &entry.path(), &mut lines);
        }
    }
    lines.into_iter().collect()
}

fn add_nodes(dev: &Path, path: &Path, lines: &mut BTreeSet<String>) {
    let Ok(metadata) = path.symlink_metadata() else {
        return;
    };
    if metadata.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            add_nodes(dev, &entry.path(), lines);
        }
    } else if metadata.file_type().is_char_device() {
        let name = path.strip_prefix(dev).unwrap_or(path).display();
        let (major, minor) = (
            nix::sys::stat::major(metadata.rdev()),
            nix::sys::stat::minor(metadata.rdev()),
        );
        let mode = metadata.mode() & 0o7777;
        lines.insert(format!(
            "c {major} {minor} {mode:o} {}:{} /dev/{name}\n",
            metadata.uid(),
            metadata.gid()
        ));
    }
}
