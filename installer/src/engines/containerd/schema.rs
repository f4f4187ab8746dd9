//! The schema of containerd's files, and where CRI's settings are in it.
//!
//! | version | since | CRI's runtimes | source |
//! |---|---|---|---|
//! | none, 1 | 1.0, in 2.x migrated | `plugins.cri` | containerd RELEASES.md, "Daemon Configuration" |
//! | 2 | 1.3 | `plugins."io.containerd.grpc.v1.cri"` | docs/PLUGINS.md |
//! | 3 | 2.0 | `plugins."io.containerd.cri.v1.runtime"` | docs/cri/config.md |
//! | 4 | 2.3 | as in 3; sockets moved | cmd/containerd/server/config, `serviceMigrate` |

use toml_edit::Item;

use super::files::{File, Files};
use crate::error::Error;
use crate::error::config_fault::ConfigFault;

/// The key path of CRI's table.
pub type Cri = &'static [&'static str];
const V1: Cri = &["plugins", "cri"];
const V2: Cri = &["plugins", "io.containerd.grpc.v1.cri"];
const V3: Cri = &["plugins", "io.containerd.cri.v1.runtime"];

/// CRI's table in each schema.
pub const TABLES: [Cri; 3] = [V1, V2, V3];

/// The schema of one containerd's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schema {
    /// The version that a file of ours must name; `None` if it must name none.
    pub version: Option<i64>,
    /// The key path of CRI's settings.
    pub cri: Cri,
    /// Whether each file is migrated separately, as from 2.3 on.
    each: bool,
}

/// The newest schema version that we know.
const NEWEST: i64 = 4;

impl Schema {
    /// The root file's schema applies, whatever version the daemon prints (`config dump` prints the newest it knows:
    /// containerd cmd/containerd/command/config.go). Without a root file we choose a schema that every containerd of
    /// that major version reads.
    pub fn of(files: &Files, daemon: (u32, u32)) -> Result<Self, Error> {
        let is_2 = daemon >= (2, 0);
        let version = match files.root() {
            Some(root) => version(root)?,
            None if is_2 => Some(3),
            None => Some(2),
        };
        let newest = match daemon {
            (0, 0) => NEWEST,
            (0..=1, _) => 2,
            (2, 0..=2) => 3,
            _ => NEWEST,
        };
        if let Some(version) = version.filter(|v| *v > newest) {
            let fault = if version > NEWEST {
                let newest = NEWEST;
                ConfigFault::VersionUnknown { version, newest }
            } else {
                ConfigFault::VersionUnread { version, daemon }
            };
            return Err(Error::config(&files.root, fault));
        }
        imports_fit(files, version, is_2)?;
        let each = daemon >= (2, 3);
        let has = |cri: Cri, key: &str| {
            files
                .read
                .iter()
                .any(|f| f.get(&[cri, &["containerd", key]].concat()).is_some())
        };
        let cri = match version {
            Some(3..) => V3,
            // 2.x reads the newer names in any file, and if both are there, the newer ones hide the
            // older (plugins/cri/runtime, `configMigration`).
            _ if is_2 && has(V3, "runtimes") => V3,
            Some(2) => V2,
            _ if !is_2 => V1,
            // If the file has no version, 2.3 migrates the old names. 2.0 to 2.2 read such a file
            // as their own schema and ignore the old names (seen on 2.1.9).
            _ if each && has_table(files, V1) => V1,
            _ if each && has_table(files, V2) => V2,
            _ => V3,
        };
        Ok(Self { version, cri, each })
    }

    /// The key paths at which the daemon reads CRI's settings in a file.
    pub fn places(&self, file: &File) -> Vec<Cri> {
        let older = version(file).ok().flatten() == Some(2) && self.each && self.cri == V3;
        if older { vec![V2, V3] } else { vec![self.cri] }
    }
}

/// Whether the root file has CRI settings under names that this daemon does not read.
pub fn is_unread(files: &Files, daemon: (u32, u32)) -> bool {
    let old = files
        .root()
        .is_some_and(|r| matches!(version(r), Ok(None | Some(1))));
    old && ((2, 0)..(2, 3)).contains(&daemon) && has_table(files, V1)
}

/// Whether CRI is disabled: `disabled_plugins` names it, as any schema calls it.
pub fn is_off(files: &Files) -> bool {
    const NAMES: [&str; 4] = [
        "cri",
        "io.containerd.grpc.v1.cri",
        "io.containerd.cri.v1.runtime",
        "io.containerd.cri.v1.images",
    ];
    files.read.iter().any(|file| {
        let list = file.document.get("disabled_plugins");
        let list = list.and_then(Item::as_array);
        list.into_iter()
            .flatten()
            .filter_map(toml_edit::Value::as_str)
            .any(|name| NAMES.contains(&name))
    })
}

/// Whether a file has any CRI settings.
pub fn has_cri(file: &File, schema: &Schema) -> bool {
    file.get(schema.cri).is_some()
}

fn has_table(files: &Files, cri: Cri) -> bool {
    let has = |f: &File| f.get(&[cri, &["containerd"]].concat()).is_some();
    files.root().is_some_and(has)
}

/// The version that a file names; `None` if it names none, or 0.
fn version(file: &File) -> Result<Option<i64>, Error> {
    let Some(item) = file.version() else {
        return Ok(None);
    };
    match item.as_integer() {
        Some(version) if version >= 0 => Ok(Some(version).filter(|v| *v > 0)),
        _ => Err(Error::config(&file.path, ConfigFault::Version)),
    }
}

/// Fails if an import has a version that does not fit. Up to 2.2, the last version applies to all
/// files, so if an import has a newer one, settings under the root file's names are lost. 2.3.0 to
/// 2.3.4 do not start in that case (aicr #1688, containerd a8ed5466).
fn imports_fit(files: &Files, root: Option<i64>, is_2: bool) -> Result<(), Error> {
    for file in &files.read {
        let Some(theirs) = version(file)?.filter(|_| file.path != files.root) else {
            continue;
        };
        let is_bad = match root {
            Some(root) if is_2 => theirs > root,
            None if is_2 => false,
            root => theirs != root.unwrap_or(1),
        };
        if is_bad {
            let fault = ConfigFault::VersionOfImport {
                theirs,
                root: files.root.clone(),
                ours: root.unwrap_or(1),
            };
            return Err(Error::config(&file.path, fault));
        }
    }
    Ok(())
}
