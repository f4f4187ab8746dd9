//! An OCI bundle with its config.json, and the container state that a hook reads on standard input.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::{IsTerminal, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use cdi::LazyJson;
use gpu_inject::live::Pidfd;
use gpu_inject::oci::{Arrangement, ContainerView, Scan, early_root_path};
use gpu_inject::policy::Policy;
use gpu_inject::request::{names_a_way, scan_long};
use gpu_inject::{Error, Excerpt};
use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, read};
use serde_json::Value;

use crate::{input, log};

/// Maximum bytes of a config.json that is held in memory and edited.
const LIMIT: u64 = 16 << 20;
/// Maximum bytes of a container state. It has the annotations, which may come from an image.
const STATE_LIMIT: usize = 16 << 20;

/// A bundle's config.json.
pub(crate) enum ConfigJson {
    /// Its text.
    Text(Vec<u8>),
    /// The open file, if it is too long to hold in memory.
    Long(File),
    /// It is a directory, a FIFO or a device. No engine makes such a thing; it is for the low-level runtime to refuse.
    NoFile,
}

/// A bundle directory.
pub(crate) struct OciBundle {
    dir: PathBuf,
    /// The text of config.json, cached because a hook may need it twice.
    text: OnceCell<Vec<u8>>,
}

impl OciBundle {
    pub(crate) fn at(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            text: OnceCell::new(),
        }
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.dir.join("config.json")
    }

    /// Reads config.json.
    pub(crate) fn config(&self) -> Result<ConfigJson, Error> {
        let path = self.config_path();
        let failed = |e| host(&path, e);
        // std's functions would make four more system calls with musl: they set O_CLOEXEC twice and read 8 KiB at a time.
        let file = File::from(
            // O_NONBLOCK: opening a FIFO would block until somebody writes to it.
            open(
                &path,
                OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY,
                Mode::empty(),
            )
            .map_err(|e| failed(e.into()))?,
        );
        let size = match file.metadata() {
            Ok(metadata) if !metadata.is_file() => return Ok(ConfigJson::NoFile),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        };
        if size > LIMIT {
            return Ok(ConfigJson::Long(file));
        }
        let mut text = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1);
        loop {
            match read(&file, spare_capacity(&mut text)) {
                Ok(0) => return Ok(ConfigJson::Text(text)),
                // The file has grown meanwhile.
                Ok(_) if text.len() as u64 > LIMIT => {
                    (&file).rewind().map_err(failed)?;
                    return Ok(ConfigJson::Long(file));
                }
                Ok(_) => text.reserve(1),
                Err(Errno::INTR) => {}
                Err(e) => return Err(failed(e.into())),
            }
        }
    }

    /// Scans a config.json that is too long to hold in memory for the parts that show whether GPUs are requested.
    pub(crate) fn scan(&self, long: File, prefixes: &[String]) -> Result<Scan<'static>, Error> {
        scan_long(long, prefixes).map_err(|why| self.invalid_config(&why))
    }

    /// Whether a config.json of any form has a name in it by which containers ask for GPUs.
    pub(crate) fn names_a_way(&self, policy: &Policy) -> Result<bool, Error> {
        let path = self.config_path();
        let found = File::open(&path).and_then(|file| names_a_way(file, policy));
        found.map_err(|e| host(&path, e))
    }

    /// The error for a config.json that is no file.
    pub(crate) fn no_file(&self) -> Error {
        self.invalid_config("not a regular file")
    }

    /// The error for a container that requests GPUs but whose config.json is too long.
    pub(crate) fn too_long(&self) -> Error {
        self.invalid_config(&format!(
            "longer than {LIMIT} bytes, which a container that asks for GPUs may not have; are there annotations of that length?"
        ))
    }

    /// Parses the text of config.json.
    pub(crate) fn value(&self, text: &[u8]) -> Result<Value, Error> {
        serde_json::from_slice(text).map_err(|e| self.invalid_config(&e.to_string()))
    }

    /// Parses the text of config.json for editing.
    pub(crate) fn document<'a>(&self, text: &'a [u8]) -> Result<LazyJson<'a>, Error> {
        LazyJson::parse(text).map_err(|e| self.invalid_config(&e.to_string()))
    }

    fn invalid_config(&self, why: &str) -> Error {
        let path = self.config_path();
        Error::State(format!("{}: {why}", Excerpt::of(&path)).into())
    }

    /// Replaces config.json atomically; owner and mode are kept.
    pub(crate) fn write_config(&self, config: &LazyJson<'_>) -> Result<(), Error> {
        let path = self.config_path();
        let temporary = self
            .dir
            .join(format!(".config.json.{}", std::process::id()));
        let write = || -> std::io::Result<()> {
            let old = fs::metadata(&path)?;
            let mut file = File::create_new(&temporary)?;
            file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
            file.write_all(config.text().as_bytes())?;
            fs::rename(&temporary, &path)
        };
        write().map_err(|e| {
            let _ = fs::remove_file(&temporary);
            host(&path, e)
        })
    }

    /// Resolves a path in config.json that is relative to the bundle.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        self.dir.join(path)
    }

    /// Where the root file system is, as the runtime sees it.
    pub(crate) fn rootfs(&self) -> Result<PathBuf, Error> {
        let below = |path: Option<&str>| {
            path.map(|path| self.dir.join(path))
                .ok_or_else(|| Error::State("config.json has no root.path".into()))
        };
        let text = match self.config()? {
            ConfigJson::Text(text) => self.text.get_or_init(|| text),
            ConfigJson::Long(file) => {
                return below(ContainerView::of(&self.scan(file, &[])?).root_path());
            }
            ConfigJson::NoFile => return Err(self.no_file()),
        };
        if let Some(path) = early_root_path(text) {
            return below(Some(&path));
        }
        if let Some(scan) = Scan::read(text) {
            return below(ContainerView::of(&scan).root_path());
        }
        below(ContainerView::new(&self.value(text)?).root_path())
    }

    /// Facts about the mounts from config.json; the fact about /dev only if `wants_dev`. No facts if the file cannot
    /// be read.
    pub(crate) fn arrangement(&self, wants_dev: bool) -> Arrangement {
        let text = match self.text.get() {
            Some(text) => text,
            None => match self.config() {
                Ok(ConfigJson::Text(text)) => self.text.get_or_init(|| text),
                Ok(ConfigJson::Long(_) | ConfigJson::NoFile) | Err(_) => {
                    return Arrangement::default();
                }
            },
        };
        Arrangement {
            own_dev: wants_dev && Arrangement::has_own_dev(text),
            no_shared_mounts: Arrangement::has_no_shared_mounts(text),
        }
    }
}

/// The container state that a hook reads on standard input (OCI runtime specification, "State"),
/// with its bundle. gpu-inject's `ContainerState` is only the parsed document.
pub(crate) struct HookState {
    pid: i32,
    pub(crate) bundle: OciBundle,
    /// The root file system, which crun adds to the state. Needed if config.json cannot be read from
    /// within a user namespace.
    pub(crate) root: Option<PathBuf>,
}

impl HookState {
    pub(crate) fn from_stdin() -> Result<Self, Error> {
        Self::read(std::io::stdin(), "standard input")
    }

    /// Discards the state, for a hook that has nothing to do. It must be read, because crun treats a hook that ends
    /// before reading everything as failed (1.8.1, with exit code -33).
    pub(crate) fn pass_over() {
        let input = std::io::stdin();
        if !input.is_terminal() {
            input::discard(input.lock());
        }
    }

    /// Reads the state from a file, or from standard input for `None` and `-`.
    pub(crate) fn from(file: Option<&Path>) -> Result<Self, Error> {
        match file.filter(|f| *f != Path::new("-") && !f.as_os_str().is_empty()) {
            Some(path) => {
                // O_NONBLOCK: opening a FIFO must not block; reading has the same time limit as for standard input.
                let mut options = File::options();
                options.read(true).custom_flags(libc::O_NONBLOCK);
                let file = options.open(path).map_err(|e| host(path, e))?;
                Self::read(file, &path.display().to_string())
            }
            None => Self::from_stdin(),
        }
    }

    fn read(from: impl Read + AsFd, name: &str) -> Result<Self, Error> {
        let wrong = |why: String| Error::State(format!("container state on {name}: {why}").into());
        let bytes = input::document(from, STATE_LIMIT).map_err(wrong)?;
        let state = gpu_inject::oci::ContainerState::parse(&bytes)?;
        if let Some(id) = &state.id {
            log::about(id);
        }
        Ok(Self {
            pid: state.pid,
            bundle: OciBundle::at(&state.bundle),
            root: state.root,
        })
    }

    /// The container's process. Its number in the state belongs to our PID namespace, because the runtime that has
    /// started us is in the same one.
    pub(crate) fn process(&self) -> Result<Pidfd, Error> {
        if self.pid <= 0 {
            return Err(Error::State(
                "container state on standard input: no pid".into(),
            ));
        }
        Pidfd::open(self.pid)
    }

    /// Where the root file system is, as the runtime sees it.
    pub(crate) fn rootfs(&self) -> Result<PathBuf, Error> {
        match &self.root {
            Some(root) => Ok(root.clone()),
            None => self.bundle.rootfs(),
        }
    }
}

fn host(path: &Path, source: std::io::Error) -> Error {
    Error::Host {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEV: &str =
        r#"{"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid"]}"#;

    fn bundle_of(config: &[u8]) -> (tempfile::TempDir, OciBundle) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), config).unwrap();
        let bundle = OciBundle::at(dir.path());
        (dir, bundle)
    }

    /// With `size` bytes.
    fn padded(config: &str, size: u64) -> Vec<u8> {
        let mut text = config.as_bytes().to_vec();
        text.resize(usize::try_from(size).unwrap(), b' ');
        text
    }

    #[test]
    fn the_root_file_system_is_found_in_every_form_of_a_config() {
        let plain = r#"{"root":{"path":"rootfs"},"mounts":[]}"#;
        for config in [
            plain.as_bytes().to_vec(),
            // Two keys `root`, and one with an escape: the quick search does not accept these.
            br#"{"annotations":{"root":"x"},"root":{"path":"rootfs"}}"#.to_vec(),
            br#"{"\u0072oot":{"path":"rootfs"}}"#.to_vec(),
            padded(plain, LIMIT + 1),
        ] {
            let (dir, bundle) = bundle_of(&config);
            assert_eq!(bundle.rootfs().unwrap(), dir.path().join("rootfs"));
        }
        for config in [&b"{}"[..], br#"{"root":{}}"#, b"[]", b"{"] {
            let (_dir, bundle) = bundle_of(config);
            assert!(bundle.rootfs().is_err());
        }
        assert!(OciBundle::at("/nonexistent").rootfs().is_err());
    }

    #[test]
    fn a_config_is_held_up_to_the_limit() {
        for (size, is_held) in [(LIMIT - 1, true), (LIMIT, true), (LIMIT + 1, false)] {
            let (_dir, bundle) = bundle_of(&padded("{}", size));
            match bundle.config().unwrap() {
                ConfigJson::Text(text) => {
                    assert!(is_held, "{size}");
                    assert_eq!(text.len() as u64, size);
                }
                ConfigJson::Long(_) => assert!(!is_held, "{size}"),
                ConfigJson::NoFile => panic!("it is a file"),
            }
        }
    }

    /// A procfs file reports size 0, and a file may also grow while it is read.
    #[test]
    fn a_config_that_is_longer_than_it_says_is_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/proc/self/maps", dir.path().join("config.json")).unwrap();
        let ConfigJson::Text(text) = OciBundle::at(dir.path()).config().unwrap() else {
            panic!("it is short");
        };
        assert!(text.ends_with(b"\n"), "{} bytes", text.len());
    }

    #[test]
    fn a_config_that_could_not_be_read_promises_nothing() {
        let config = format!(r#"{{"root":{{"path":"r"}},"mounts":[{DEV}]}}"#);
        let (_dir, bundle) = bundle_of(config.as_bytes());
        let expected = |own_dev| Arrangement {
            own_dev,
            no_shared_mounts: true,
        };
        assert_eq!(bundle.arrangement(true), expected(true));
        assert_eq!(bundle.arrangement(false), expected(false));
        let shared = config.replace("nosuid", "rshared");
        let (_dir, bundle) = bundle_of(shared.as_bytes());
        assert!(!bundle.arrangement(true).no_shared_mounts);
        let (_dir, long) = bundle_of(&padded(&config, LIMIT + 1));
        for bundle in [long, OciBundle::at("/nonexistent")] {
            assert_eq!(bundle.arrangement(true), Arrangement::default());
        }
    }

    #[test]
    fn a_config_that_is_no_json_is_refused_with_its_path() {
        let (dir, bundle) = bundle_of(b"{");
        let errors = [
            bundle.value(b"{").unwrap_err(),
            bundle.document(b"{").err().unwrap(),
        ];
        for error in errors {
            let path = dir.path().join("config.json");
            assert!(
                error.to_string().starts_with(path.to_str().unwrap()),
                "{error}"
            );
        }
        let config = r#"{"process":{"env":["NVIDIA_VISIBLE_DEVICES=all"]}}"#;
        let (dir, bundle) = bundle_of(&padded(config, LIMIT + 1));
        let long = File::open(dir.path().join("config.json")).unwrap();
        let scan = bundle.scan(long, &[]).unwrap();
        let view = ContainerView::of(&scan);
        assert_eq!(view.env("NVIDIA_VISIBLE_DEVICES"), Some("all"));
    }
}
