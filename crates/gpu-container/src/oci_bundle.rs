//! OCI bundles and the state that hooks get on standard input.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::{IsTerminal, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use cdi::LazyJson;
use gpu_inject::live::Pidfd;
use gpu_inject::oci::{Arrangement, ContainerView, Scan, early_root_path};
use gpu_inject::request::scan_long;
use gpu_inject::{Error, Excerpt};
use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, read};
use serde_json::Value;

use crate::{input, log};

/// The longest config.json that is held, and edited.
const LIMIT: u64 = 16 << 20;
/// The longest state: it has the annotations, which may be an image's.
const STATE: usize = 16 << 20;

/// What a bundle says.
pub(crate) enum Config {
    Text(Vec<u8>),
    Long(File),
}

/// A bundle directory.
pub(crate) struct Bundle {
    dir: PathBuf,
    /// The text of config.json for a hook, which may need it twice.
    text: OnceCell<Vec<u8>>,
}

impl Bundle {
    pub(crate) fn at(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            text: OnceCell::new(),
        }
    }

    fn config_path(&self) -> PathBuf {
        self.dir.join("config.json")
    }

    /// config.json: its text, or the file where that is too long to be held.
    pub(crate) fn config(&self) -> Result<Config, Error> {
        let path = self.config_path();
        let failed = |e| host(&path, e);
        // std's own would make four calls more with musl: O_CLOEXEC set twice, and reads of 8 KiB.
        let file = File::from(
            open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|e| failed(e.into()))?,
        );
        let size = file.metadata().map_or(0, |m| m.len());
        if size > LIMIT {
            return Ok(Config::Long(file));
        }
        let mut text = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1);
        loop {
            match read(&file, spare_capacity(&mut text)) {
                Ok(0) => return Ok(Config::Text(text)),
                // It has become longer since.
                Ok(_) if text.len() as u64 > LIMIT => {
                    (&file).rewind().map_err(failed)?;
                    return Ok(Config::Long(file));
                }
                Ok(_) => text.reserve(1),
                Err(Errno::INTR) => {}
                Err(e) => return Err(failed(e.into())),
            }
        }
    }

    /// Of one that is too long what tells whether GPUs are asked for.
    pub(crate) fn scan(&self, long: File, prefixes: &[String]) -> Result<Scan<'static>, Error> {
        scan_long(long, prefixes).map_err(|why| self.wrong(&why))
    }

    /// What cannot be done with one that is too long.
    pub(crate) fn too_long(&self) -> Error {
        self.wrong(&format!(
            "longer than {LIMIT} bytes, which a container that asks for GPUs may not have; are there annotations of that length?"
        ))
    }

    /// config.json as [`Bundle::text`] has it.
    pub(crate) fn value(&self, text: &[u8]) -> Result<Value, Error> {
        serde_json::from_slice(text).map_err(|e| self.wrong(&e.to_string()))
    }

    /// The same to be edited.
    pub(crate) fn document<'a>(&self, text: &'a [u8]) -> Result<LazyJson<'a>, Error> {
        LazyJson::parse(text).map_err(|e| self.wrong(&e.to_string()))
    }

    fn wrong(&self, why: &str) -> Error {
        let path = self.config_path();
        Error::State(format!("{}: {why}", Excerpt::of(&path)).into())
    }

    /// Replaces config.json in one step; owner and mode stay.
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

    /// A path that config.json has relative to the bundle.
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
            Config::Text(text) => self.text.get_or_init(|| text),
            Config::Long(file) => {
                return below(ContainerView::of(&self.scan(file, &[])?).root_path());
            }
        };
        if let Some(path) = early_root_path(text) {
            return below(Some(&path));
        }
        if let Some(scan) = Scan::read(text) {
            return below(ContainerView::of(&scan).root_path());
        }
        below(ContainerView::new(&self.value(text)?).root_path())
    }

    /// What config.json says about mounts: of /dev only where that is wanted. Nothing where it cannot be read.
    pub(crate) fn arrangement(&self, wants_dev: bool) -> Arrangement {
        let text = match self.text.get() {
            Some(text) => text,
            None => match self.config() {
                Ok(Config::Text(text)) => self.text.get_or_init(|| text),
                Ok(Config::Long(_)) | Err(_) => return Arrangement::default(),
            },
        };
        Arrangement {
            own_dev: wants_dev && Arrangement::has_own_dev(text),
            no_shared_mounts: Arrangement::has_no_shared_mounts(text),
        }
    }
}

/// What a hook reads on standard input (OCI runtime specification, "State").
pub(crate) struct State {
    pid: i32,
    pub(crate) bundle: Bundle,
    /// crun says where the root file system is; config.json may be nobody's to read in a
    /// user namespace.
    pub(crate) root: Option<PathBuf>,
}

impl State {
    pub(crate) fn from_stdin() -> Result<Self, Error> {
        Self::read(std::io::stdin(), "standard input")
    }

    /// For a hook that has nothing to do: crun takes one that ends before it is told everything
    /// for one that failed (1.8.1, the exit code is -33).
    pub(crate) fn pass_over() {
        let input = std::io::stdin();
        if !input.is_terminal() {
            input::pass_over(input.lock());
        }
    }

    /// From that file; from standard input where there is none, or `-`.
    pub(crate) fn from(file: Option<&Path>) -> Result<Self, Error> {
        match file.filter(|f| *f != Path::new("-") && !f.as_os_str().is_empty()) {
            Some(path) => {
                // A FIFO is waited for no longer than standard input.
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
        let bytes = input::document(from, STATE).map_err(wrong)?;
        let told = gpu_inject::oci::State::parse(&bytes)?;
        if let Some(id) = &told.id {
            log::about(id);
        }
        Ok(Self {
            pid: told.pid,
            bundle: Bundle::at(&told.bundle),
            root: told.root,
        })
    }

    /// The container's process, which the state numbers as the runtime does that starts us: in our
    /// pid namespace.
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
