//! OCI bundles and the state that hooks get on standard input.

use std::fs::{self, File};
use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use cdi::Document;
use gpu_inject::Error;
use gpu_inject::live::Pidfd;
use gpu_inject::request::{ContainerView, Scan, early_root_path};
use serde_json::Value;

use crate::log;

/// A config.json or a state beyond this is a mistake or an attack.
const LIMIT: u64 = 16 << 20;

/// A bundle directory.
pub(crate) struct Bundle {
    dir: PathBuf,
}

impl Bundle {
    pub(crate) fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    fn config_path(&self) -> PathBuf {
        self.dir.join("config.json")
    }

    /// The text of config.json.
    pub(crate) fn text(&self) -> Result<Vec<u8>, Error> {
        let path = self.config_path();
        let file = File::open(&path).map_err(|e| host(&path, e))?;
        let size = file.metadata().map_or(0, |m| m.len());
        bounded(file, size).map_err(|why| self.wrong(&why))
    }

    /// config.json as [`Bundle::text`] has it.
    pub(crate) fn value(&self, text: &[u8]) -> Result<Value, Error> {
        serde_json::from_slice(text).map_err(|e| self.wrong(&e.to_string()))
    }

    /// The same to be edited.
    pub(crate) fn document<'a>(&self, text: &'a [u8]) -> Result<Document<'a>, Error> {
        Document::parse(text).map_err(|e| self.wrong(&e.to_string()))
    }

    fn wrong(&self, why: &str) -> Error {
        Error::State(format!("{}: {why}", self.config_path().display()))
    }

    /// Replaces config.json in one step; owner and mode stay.
    pub(crate) fn write_config(&self, config: &Document<'_>) -> Result<(), Error> {
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

    /// Where the root file system is, as the runtime sees it.
    pub(crate) fn rootfs(&self) -> Result<PathBuf, Error> {
        let text = self.text()?;
        let below = |path: Option<&str>| {
            path.map(|path| self.dir.join(path))
                .ok_or_else(|| Error::State("config.json has no root.path".into()))
        };
        if let Some(path) = early_root_path(&text) {
            return below(Some(&path));
        }
        if let Some(scan) = Scan::read(&text) {
            return below(ContainerView::of(&scan).root_path());
        }
        below(ContainerView::new(&self.value(&text)?).root_path())
    }
}

/// What a hook reads on standard input (OCI runtime specification, "State").
pub(crate) struct State {
    pid: i32,
    pub(crate) bundle: Bundle,
    /// crun says where the root file system is; config.json may be nobody's to read in a
    /// user namespace.
    root: Option<PathBuf>,
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
            let _ = std::io::copy(&mut input.take(LIMIT), &mut std::io::sink());
        }
    }

    /// From that file; from standard input where there is none, or `-`.
    pub(crate) fn from(file: Option<&Path>) -> Result<Self, Error> {
        match file.filter(|f| *f != Path::new("-") && !f.as_os_str().is_empty()) {
            Some(path) => {
                let file = File::open(path).map_err(|e| host(path, e))?;
                Self::read(file, &path.display().to_string())
            }
            None => Self::from_stdin(),
        }
    }

    fn read(from: impl Read, name: &str) -> Result<Self, Error> {
        let wrong = |why: String| Error::State(format!("container state on {name}: {why}"));
        let bytes = bounded(from, 4095).map_err(wrong)?;
        let told = gpu_inject::state::State::parse(&bytes)?;
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

/// What there is, expected to be of that size.
fn bounded(from: impl Read, size: u64) -> Result<Vec<u8>, String> {
    // The read that finds nothing left needs room too.
    let room = usize::try_from(size.min(LIMIT)).unwrap_or_default() + 1;
    let mut bytes = Vec::with_capacity(room);
    from.take(LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| e.to_string())?;
    if bytes.len() as u64 > LIMIT {
        return Err(format!("longer than {LIMIT} bytes"));
    }
    Ok(bytes)
}

fn host(path: &Path, source: std::io::Error) -> Error {
    Error::Host {
        path: path.to_owned(),
        source,
    }
}
