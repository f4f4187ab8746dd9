//! Installs the driver into a root with a list of everything that was made, and removes it again.
//!
//! Longer than 400 lines, since each step of the way in is beside the one that takes it back.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::describe::{Description, Platform};
use crate::elf::{SharedObject, shared_object};
use crate::kernel::{device_lines, pci_files, proc_files};
use crate::parts::{
    CAPS_MAJOR, DRM_MAJOR, FILES, LIBRARIES, LIBRARIES_32, MAJOR, OWN_VERSION, PROGRAMS, UVM_MAJOR,
};
use crate::sizes::Sizes;
use crate::wire::{MAGIC, SIZE};
use crate::{extras, tegra, wsl};

const MANIFEST: &str = "var/lib/fake-driver/manifest";
const DESCRIPTION: &str = "var/lib/fake-driver/driver.toml";
/// An entry of the manifest: a root that had a loader cache before the installation.
const CACHE_OF: &str = "ldconfig ";
const LIB: &str = "usr/lib/x86_64-linux-gnu";
const LIB_32: &str = "usr/lib/i386-linux-gnu";

/// Where the parts come from and where they go.
#[derive(Clone, Debug)]
pub struct Places {
    /// The host's root.
    pub root: PathBuf,
    /// Where in the root the user space goes; usually `/`.
    pub driver_root: PathBuf,
    /// The directory of the built libraries and nvidia-smi. Without it these are empty files too, which is enough
    /// where nothing runs them.
    pub artifacts: Option<PathBuf>,
}

/// Everything that was made, in order, so that it can be removed in the opposite order.
pub(crate) struct Made<'a> {
    pub(crate) root: &'a Path,
    paths: Vec<PathBuf>,
    /// Roots that already had a loader cache.
    caches: Vec<PathBuf>,
    /// Existing files are kept, and are not an error.
    keeps: bool,
}

/// Installs files and nodes, and proc and sysfs in a tree that is not a running host.
pub fn install(places: &Places, description: &Description, live: bool) -> io::Result<()> {
    if places.root.join(MANIFEST).exists() {
        let why = "a fake driver is installed there already; remove it first";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
    }
    let mut made = Made {
        root: &places.root,
        paths: Vec::new(),
        caches: Vec::new(),
        keeps: false,
    };
    let done = make(&mut made, places, description, live);
    let user_space = relative(&places.driver_root);
    let cache = user_space.join("etc/ld.so.cache");
    let done = done.and_then(|()| {
        if places.root.join(&cache).exists() {
            made.caches.push(user_space.to_owned());
            return Ok(());
        }
        made.place(&cache).map(drop)
    });
    made.keep_list(description)?;
    done?;
    ldconfig(&places.root.join(user_space))
}

/// Makes the missing nodes of the installed driver: after a reboot /dev is new.
pub fn load_nodes(root: &Path) -> io::Result<Description> {
    let path = root.join(DESCRIPTION);
    let bad = |e: String| io::Error::new(io::ErrorKind::InvalidData, e);
    let text = fs::read_to_string(&path)
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    let description = Description::from_toml(&text).map_err(bad)?;
    let mut made = Made {
        root,
        paths: Vec::new(),
        caches: Vec::new(),
        keeps: true,
    };
    nodes(&mut made, &description)?;
    Ok(description)
}

fn make(
    made: &mut Made<'_>,
    places: &Places,
    description: &Description,
    live: bool,
) -> io::Result<()> {
    let user_space = relative(&places.driver_root);
    match description.platform {
        Platform::Nvidia => {}
        Platform::Wsl => return wsl::make(made, description),
        Platform::Tegra => return tegra::make(made),
    }
    libraries(made, places, description, user_space)?;
    programs(made, places, description, user_space)?;
    nodes(made, description)?;
    extras::make(made, description)?;
    if !live {
        let devices = format!(
            "Character devices:\n  1 mem\n{}\nBlock devices:\n  8 sd\n",
            device_lines()
        );
        made.file(Path::new("proc/devices"), devices.as_bytes(), 0o444)?;
        for (path, content) in proc_files(description) {
            made.file(
                Path::new("proc").join(path).as_path(),
                content.as_bytes(),
                0o444,
            )?;
        }
        for (path, content) in pci_files(description) {
            made.file(
                &Path::new("sys/bus/pci/devices").join(path),
                content.as_bytes(),
                0o444,
            )?;
        }
    }
    Ok(())
}

fn libraries(
    made: &mut Made<'_>,
    places: &Places,
    description: &Description,
    below: &Path,
) -> io::Result<()> {
    let version = &description.driver_version;
    let text = description.to_wire().to_text();
    let sizes = Sizes::new(!description.small);
    for (artifact, name) in [
        ("libfake_nvml.so", "libnvidia-ml"),
        ("libfake_cuda.so", "libcuda"),
    ] {
        let library = match &places.artifacts {
            Some(dir) => built(&dir.join(artifact), &text)?,
            None => shared_object(&format!("{name}.so.1"), false),
        };
        let file = made.library(&below.join(LIB), name, version, "1", &library)?;
        // After the real code, where no segment is.
        let size = sizes.of(name).max(library.len() as u64);
        fs::File::options().write(true).open(file)?.set_len(size)?;
        made.link(
            &below.join(LIB).join(format!("{name}.so")),
            &format!("{name}.so.1"),
        )?;
    }
    for (dir, list, is_32) in [
        (LIB, &LIBRARIES[..], false),
        (LIB_32, &LIBRARIES_32[..], true),
    ] {
        for (name, number) in list {
            let file = Path::new(name)
                .file_name()
                .unwrap_or_default()
                .to_string_lossy();
            let number = if number.is_empty() { version } else { *number };
            let soname = format!("{file}.so.{number}");
            let path = made.library(&below.join(dir), name, version, number, &[])?;
            let file = fs::File::options().write(true).open(path)?;
            SharedObject::new(&soname, is_32, sizes.of(&soname)).write(&file)?;
        }
    }
    for (soname, rest) in OWN_VERSION {
        let file = format!("{soname}.{rest}");
        made.file(
            &below.join(LIB).join(&file),
            &shared_object(soname, false),
            0o644,
        )?;
        made.link(&below.join(LIB).join(soname), &file)?;
    }
    made.link(
        &below.join(LIB).join("gbm/nvidia-drm_gbm.so"),
        "../libnvidia-allocator.so.1",
    )
}

fn programs(
    made: &mut Made<'_>,
    places: &Places,
    description: &Description,
    below: &Path,
) -> io::Result<()> {
    let smi = match &places.artifacts {
        Some(dir) => fs::read(dir.join("fake-nvidia-smi"))?,
        None => shared_object("nvidia-smi", false),
    };
    made.file(&below.join("usr/bin/nvidia-smi"), &smi, 0o755)?;
    let sizes = Sizes::new(!description.small);
    for name in PROGRAMS {
        let path = below.join("usr/bin").join(name);
        made.file(&path, &[], 0o755)?;
        let file = fs::File::options().write(true).open(made.root.join(path))?;
        SharedObject::new(name, false, sizes.of(name)).write(&file)?;
    }
    for (path, content) in FILES {
        let path = path.replace("{version}", &description.driver_version);
        made.file(&below.join(&path), content.as_bytes(), 0o644)?;
        let size = sizes.of(path.rsplit('/').next().unwrap_or_default());
        if size > 0 {
            let file = fs::File::options()
                .write(true)
                .open(made.root.join(below.join(path)))?;
            file.set_len(size)?;
        }
    }
    Ok(())
}

fn built(path: &Path, text: &str) -> io::Result<Vec<u8>> {
    let mut library =
        fs::read(path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    patch(&mut library, text)?;
    Ok(library)
}

/// Overwrites the marked buffer.
fn patch(library: &mut [u8], text: &str) -> io::Result<()> {
    let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    // The file has the mark twice: in the buffer, and as the constant that the code compares with.
    let at = library
        .windows(MAGIC.len())
        .enumerate()
        .filter(|(_, w)| w == MAGIC)
        .map(|(at, _)| at)
        .find(|at| {
            library
                .get(at + MAGIC.len()..at + SIZE)
                .is_some_and(|rest| rest.iter().all(|b| *b == 0))
        })
        .ok_or_else(|| bad("the library has no place for a description"))?;
    let start = at + MAGIC.len();
    if text.len() >= SIZE - MAGIC.len() {
        return Err(bad("the description is too long"));
    }
    library[start..start + text.len()].copy_from_slice(text.as_bytes());
    Ok(())
}

fn nodes(made: &mut Made<'_>, description: &Description) -> io::Result<()> {
    if description.no_nodes {
        return Ok(());
    }
    for (minor, mode) in [(1, 0o400), (2, 0o444)] {
        made.node(
            &format!("nvidia-caps/nvidia-cap{minor}"),
            CAPS_MAJOR,
            minor,
            mode,
        )?;
    }
    made.node("nvidiactl", MAJOR, 255, 0o666)?;
    made.node("nvidia-modeset", MAJOR, 254, 0o666)?;
    made.node("nvidia-uvm", UVM_MAJOR, 0, 0o666)?;
    made.node("nvidia-uvm-tools", UVM_MAJOR, 1, 0o666)?;
    for (gpu, n) in description.gpus.iter().zip(0u64..) {
        made.node(
            &format!("nvidia{}", gpu.minor),
            MAJOR,
            gpu.minor.into(),
            0o666,
        )?;
        made.node(&format!("dri/card{}", n + 1), DRM_MAJOR, n + 1, 0o660)?;
        made.node(
            &format!("dri/renderD{}", n + 129),
            DRM_MAJOR,
            n + 129,
            0o666,
        )?;
        for (kind, target) in [
            ("card", format!("card{}", n + 1)),
            ("render", format!("renderD{}", n + 129)),
        ] {
            made.link(
                Path::new(&format!("dev/dri/by-path/pci-{}-{kind}", gpu.pci)),
                &format!("../{target}"),
            )?;
        }
        for cap in gpu.mig.iter().flat_map(|s| s.caps(gpu.minor)) {
            made.node(
                &format!("nvidia-caps/nvidia-cap{cap}"),
                CAPS_MAJOR,
                cap.into(),
                0o444,
            )?;
        }
    }
    Ok(())
}

impl Made<'_> {
    fn parents(&mut self, path: &Path) -> io::Result<()> {
        // A link in the tree (/usr to /somewhere, say) is relative to the tree's root, not to ours.
        for dir in path.ancestors().skip(1) {
            let Ok(real) = self.root.join(dir).canonicalize() else {
                continue;
            };
            if !real.starts_with(self.root) {
                let why = format!(
                    "{}: a link leads out of {}",
                    dir.display(),
                    self.root.display()
                );
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
            break;
        }
        let missing: Vec<&Path> = path
            .ancestors()
            .skip(1)
            .take_while(|p| !p.as_os_str().is_empty() && !self.root.join(p).exists())
            .collect();
        for dir in missing.into_iter().rev() {
            fs::create_dir(self.root.join(dir))?;
            self.paths.push(dir.to_owned());
        }
        Ok(())
    }

    /// Refuses to replace a file that is not ours: there may be a real driver.
    fn place(&mut self, path: &Path) -> io::Result<PathBuf> {
        self.parents(path)?;
        let full = self.root.join(path);
        if full.symlink_metadata().is_ok() {
            let why = format!(
                "{} is there already; is a driver installed?",
                full.display()
            );
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        self.paths.push(path.to_owned());
        Ok(full)
    }

    pub(crate) fn file(&mut self, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        let full = self.place(path)?;
        fs::write(&full, content)?;
        fs::set_permissions(&full, fs::Permissions::from_mode(mode))
    }

    pub(crate) fn link(&mut self, path: &Path, target: &str) -> io::Result<()> {
        if self.keeps && self.root.join(path).symlink_metadata().is_ok() {
            return Ok(());
        }
        let full = self.place(path)?;
        symlink(target, full)
    }

    fn library(
        &mut self,
        dir: &Path,
        name: &str,
        version: &str,
        number: &str,
        content: &[u8],
    ) -> io::Result<PathBuf> {
        let path = dir.join(format!("{name}.so.{version}"));
        self.file(&path, content, 0o644)?;
        let full = self.root.join(path);
        if number == version {
            return Ok(full);
        }
        let file = Path::new(name)
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        self.link(
            &dir.join(format!("{name}.so.{number}")),
            &format!("{file}.so.{version}"),
        )?;
        Ok(full)
    }

    pub(crate) fn node(&mut self, name: &str, major: u64, minor: u64, mode: u32) -> io::Result<()> {
        let path = Path::new("dev").join(name);
        if self.keeps && self.root.join(&path).symlink_metadata().is_ok() {
            return Ok(());
        }
        let full = self.place(&path)?;
        mknod(
            &full,
            SFlag::S_IFCHR,
            Mode::from_bits_truncate(mode),
            makedev(major, minor),
        )?;
        fs::set_permissions(&full, fs::Permissions::from_mode(mode))
    }

    fn keep_list(&mut self, description: &Description) -> io::Result<()> {
        let text = toml::to_string(description).map_err(io::Error::other)?;
        self.file(Path::new(DESCRIPTION), text.as_bytes(), 0o644)?;
        let mut lines = String::new();
        for path in &self.paths {
            lines += &format!("{}\n", path.display());
        }
        for root in &self.caches {
            lines += &format!("{CACHE_OF}{}\n", root.display());
        }
        fs::write(self.root.join(MANIFEST), lines)
    }
}

/// Removes what `install` made, and nothing else.
pub fn remove(root: &Path) -> io::Result<()> {
    let manifest = root.join(MANIFEST);
    let list = fs::read_to_string(&manifest)?;
    fs::remove_file(&manifest)?;
    let mut caches = Vec::new();
    for line in list.lines().rev() {
        if let Some(cache) = line.strip_prefix(CACHE_OF) {
            caches.push(root.join(cache));
            continue;
        }
        let path = root.join(line);
        let Ok(metadata) = path.symlink_metadata() else {
            continue;
        };
        let gone = if metadata.is_dir() {
            fs::remove_dir(&path)
        } else {
            fs::remove_file(&path)
        };
        match gone {
            // Somebody has put something into a directory of ours, so it stays.
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            other => other?,
        }
    }
    caches.iter().try_for_each(|root| ldconfig(root))
}

/// Makes the root's loader cache with this machine's ldconfig.
fn ldconfig(root: &Path) -> io::Result<()> {
    fs::create_dir_all(root.join("etc"))?;
    let status = Command::new("/sbin/ldconfig")
        .arg("-r")
        .arg(root)
        .status()?;
    if !status.success() {
        return Err(io::Error::other(format!(
            "ldconfig -r {}: {status}",
            root.display()
        )));
    }
    Ok(())
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}
