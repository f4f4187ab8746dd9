//! The files in the directories of CDI specs, read once for all checks.

use std::cell::OnceCell;
use std::io;
use std::path::{Path, PathBuf};

use cdi::{Registry, Spec};
use gpu_host::Root;

/// A file in a directory of CDI specs.
pub struct SpecFile {
    /// Its path.
    pub path: PathBuf,
    /// The position of its directory: of two specs, the one in the later directory counts.
    priority: usize,
    content: io::Result<Vec<u8>>,
    spec: OnceCell<Option<Spec>>,
}

/// Whether engines read a spec of that name.
pub fn is_spec_name(path: &Path) -> bool {
    let end = path.extension();
    end.is_some_and(|e| e == "json" || e == "yaml")
}

impl SpecFile {
    /// Reads the file.
    pub fn read(root: &Root, priority: usize, path: PathBuf) -> Self {
        Self {
            content: root.read(&path),
            spec: OnceCell::new(),
            priority,
            path,
        }
    }

    /// Whether engines read a file of that name.
    pub fn is_read(&self) -> bool {
        is_spec_name(&self.path)
    }

    /// The spec in it; `None` if it has none that can be parsed.
    pub fn spec(&self) -> Option<&Spec> {
        let parse = || Spec::parse(self.text()?.as_bytes()).ok();
        self.spec.get_or_init(parse).as_ref()
    }

    /// Why this user may not read it.
    pub fn refused(&self) -> Option<String> {
        let error = self.content.as_ref().err()?;
        (error.kind() == io::ErrorKind::PermissionDenied).then(|| error.to_string())
    }

    /// Its text, if it has one.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.content.as_ref().ok()?).ok()
    }
}

/// The specs in the files that engines read.
pub fn registry(files: &[SpecFile]) -> Registry {
    let files = files.iter().filter(|file| file.is_read());
    Registry::as_engines(files.map(|file| {
        let content = match &file.content {
            Ok(bytes) => Ok(bytes.clone()),
            Err(e) => Err(io::Error::new(e.kind(), e.to_string())),
        };
        (file.path.clone(), file.priority, content)
    }))
}
