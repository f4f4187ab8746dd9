//! All specs of a host, and which of them a name means.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::apply::{NodeStat, apply};
use crate::{ContainerEdits, Device, Error, Excerpt, LazyJson, QualifiedName, Spec};

/// Where engines look, later ones winning (SPEC.md, "Location").
pub const SPEC_DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// No spec is near it: one GPU takes some kilobytes.
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
    /// Reads `*.json` and `*.yaml` of each directory; later directories win. A missing
    /// directory is none, a broken file is in [`Registry::errors`] and hides no other.
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

    /// The same from contents already read: path, priority (higher wins), bytes.
    pub fn from_files(
        files: impl IntoIterator<Item = (PathBuf, usize, io::Result<Vec<u8>>)>,
    ) -> Self {
        let mut registry = Self::default();
        for (path, priority, bytes) in files {
            let spec = bytes
                .map_err(|source| Error::Read {
                    path: path.clone(),
                    source,
                })
                .and_then(|b| Spec::parse(&b));
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

    /// Files that could not be used, with the reason.
    pub fn errors(&self) -> &[(PathBuf, Error)] {
        &self.errors
    }

    /// Every device with the file that defines it, or the conflict.
    pub fn devices(&self) -> BTreeMap<QualifiedName, Result<&Path, Error>> {
        let mut all = BTreeMap::new();
        for loaded in &self.specs {
            for device in &loaded.spec.devices {
                let name = QualifiedName {
                    kind: loaded.spec.kind.clone(),
                    device: device.name.clone(),
                };
                let found = self.find(&name).map(|(loaded, _)| loaded.path.as_path());
                all.insert(name, found);
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

    /// The edits of these devices: those of each spec once, before its devices'.
    pub fn edits(&self, names: &[QualifiedName]) -> Result<Vec<&ContainerEdits>, Error> {
        let mut seen: Vec<*const Loaded> = Vec::new();
        let mut edits = Vec::new();
        for name in names {
            let (loaded, device) = self.find(name)?;
            if !seen.contains(&std::ptr::from_ref(loaded)) {
                seen.push(loaded);
                edits.push(&loaded.spec.container_edits);
            }
            edits.push(&device.container_edits);
        }
        Ok(edits)
    }

    /// Applies these devices to an OCI config; on an error the config is as before.
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

/// A plain file's bytes. Whoever starts a container waits for this: not for a pipe that nobody
/// writes to, nor for a device that never ends.
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
