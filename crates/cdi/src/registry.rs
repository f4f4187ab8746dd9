//! All CDI specs of a host, and the lookup of devices by name.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::apply::{NodeStat, apply};
use crate::{ContainerEdits, Device, Error, Excerpt, LazyJson, QualifiedName, Spec};

/// The directories that engines read; the later one takes precedence (SPEC.md, "Location").
pub const SPEC_DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// Maximum bytes of a spec file. A GPU takes some kilobytes.
const LIMIT: u64 = 64 << 20;

struct Loaded {
    path: PathBuf,
    priority: usize,
    spec: Spec,
}

/// The specs of some directories.
#[derive(Default)]
pub struct Registry {
    specs: Vec<Loaded>,
    errors: Vec<(PathBuf, Error)>,
}

impl Registry {
    /// Reads `*.json` and `*.yaml` in each directory; later directories take precedence. A missing
    /// directory counts as empty. An invalid file is recorded in [`Registry::errors`] and does not
    /// affect others.
    pub fn load_dirs<P: AsRef<Path>>(dirs: &[P]) -> Self {
        let files = dirs.iter().enumerate().flat_map(|(priority, dir)| {
            let mut paths: Vec<PathBuf> = fs::read_dir(dir)
                .into_iter()
                .flatten()
                .flatten()
                .map(|e| e.path())
                .filter(|p| p.extension().is_some_and(|e| e == "json" || e == "yaml"))
                .collect();
            paths.sort();
            paths.into_iter().map(move |path| {
                let bytes = read(&path);
                (path, priority, bytes)
            })
        });
        Self::from_files(files)
    }

    /// Makes a registry from files that were read already: (path, priority, bytes). A higher priority takes precedence.
    pub fn from_files(
        files: impl IntoIterator<Item = (PathBuf, usize, io::Result<Vec<u8>>)>,
    ) -> Self {
        Self::checked(files, |_| Ok(()))
    }

    /// The same without the specs that engines refuse; see [`Spec::validate_as_engines`].
    pub fn as_engines(
        files: impl IntoIterator<Item = (PathBuf, usize, io::Result<Vec<u8>>)>,
    ) -> Self {
        Self::checked(files, Spec::validate_as_engines)
    }

    fn checked(
        files: impl IntoIterator<Item = (PathBuf, usize, io::Result<Vec<u8>>)>,
        check: impl Fn(&Spec) -> Result<(), Error>,
    ) -> Self {
        let mut registry = Self::default();
        for (path, priority, bytes) in files {
            let spec = bytes
                .map_err(|source| Error::Read {
                    path: path.clone(),
                    source,
                })
                .and_then(|b| Spec::parse(&b))
                .and_then(|spec| check(&spec).map(|()| spec));
            match spec {
                Ok(spec) => registry.specs.push(Loaded {
                    path,
                    priority,
                    spec,
                }),
                Err(e) => registry.errors.push((path, e)),
            }
        }
        registry
    }

    /// The files that could not be used, each with the reason.
    pub fn errors(&self) -> &[(PathBuf, Error)] {
        &self.errors
    }

    /// The specs that can be used, each with its file.
    pub fn specs(&self) -> impl Iterator<Item = (&Path, &Spec)> {
        let specs = self.specs.iter();
        specs.map(|loaded| (loaded.path.as_path(), &loaded.spec))
    }

    /// Every device with the file that defines it, or with the conflict.
    pub fn devices(&self) -> BTreeMap<QualifiedName, Result<&Path, Error>> {
        let mut all = BTreeMap::new();
        for loaded in &self.specs {
            for device in &loaded.spec.devices {
                let name = QualifiedName {
                    kind: loaded.spec.kind.clone(),
                    device: device.name.clone(),
                };
                let file = self.find(&name).map(|(loaded, _)| loaded.path.as_path());
                all.insert(name, file);
            }
        }
        all
    }

    fn find(&self, name: &QualifiedName) -> Result<(&Loaded, &Device), Error> {
        let mut best: Option<(&Loaded, &Device)> = None;
        let mut conflict = None;
        for loaded in self.specs.iter().filter(|l| l.spec.kind == name.kind) {
            let Some(device) = loaded.spec.device(&name.device) else {
                continue;
            };
            match best {
                Some((other, _)) if other.priority > loaded.priority => {}
                Some((other, _)) if other.priority == loaded.priority => {
                    conflict = Some((&other.path, &loaded.path));
                }
                _ => {
                    best = Some((loaded, device));
                    conflict = None;
                }
            }
        }
        if let Some((first, second)) = conflict {
            return Err(Error::Conflict {
                name: Excerpt::of(name.to_string()),
                first: first.clone(),
                second: second.clone(),
            });
        }
        best.ok_or_else(|| Error::Unknown {
            name: Excerpt::of(name.to_string()),
        })
    }

    /// The edits of these devices. The edits of each spec are included once, before those of its devices.
    pub fn edits(&self, names: &[QualifiedName]) -> Result<Vec<&ContainerEdits>, Error> {
        let mut included: Vec<*const Loaded> = Vec::new();
        let mut edits = Vec::new();
        for name in names {
            let (loaded, device) = self.find(name)?;
            if !included.contains(&std::ptr::from_ref(loaded)) {
                included.push(loaded);
                edits.push(&loaded.spec.container_edits);
            }
            edits.push(&device.container_edits);
        }
        Ok(edits)
    }

    /// Applies these devices to an OCI config. After an error the config is unchanged.
    pub fn inject(
        &self,
        config: &mut LazyJson<'_>,
        names: &[QualifiedName],
        stat: &dyn Fn(&Path) -> io::Result<NodeStat>,
    ) -> Result<(), Error> {
        let mut edited = config.clone();
        for edits in self.edits(names)? {
            apply(&mut edited, edits, stat)?;
        }
        *config = edited;
        Ok(())
    }
}

/// Reads a regular file. Other types are refused, so that a container start neither waits for a FIFO
/// without writer nor reads a device endlessly.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a plain file"));
    }
    let mut bytes = Vec::new();
    let read = File::open(path)?.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if read as u64 > LIMIT {
        let why = format!("longer than {LIMIT} bytes");
        return Err(io::Error::new(ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}
