//! Plans our lines in the template of `config.toml`.

use std::path::{Path, PathBuf};

use gpu_host::programs;
use toml_edit::{Item, TableLike};

use super::pending::{BEGIN, END, PendingTemplate};
use crate::edit::{block, toml};
use crate::engines::containerd::edits::Place;
use crate::engines::containerd::files::{File, Files};
use crate::engines::containerd::schema::Schema;
use crate::engines::containerd::settings::{self, Setting};
use crate::engines::containerd::view::View;
use crate::error::Error;
use crate::error::config_fault::{ConfigFault, ConfigReader};
use crate::error::edit_error::EditError;
use crate::host::Host;
use crate::model::change::{Change, MergeKind};
use crate::model::setup_options::{Existing, Mode, SetupOptions};

/// The start of a template that only adds to the built-in one (docs.k3s.io, "Base template").
const BASE: &str = "{{ template \"base\" . }}\n\n";

/// The names of templates: that of schema 2 and before, and that of later ones.
pub const NAMES: [&str; 2] = ["config.toml.tmpl", "config-v3.toml.tmpl"];

/// The template of one distribution.
pub struct Template<'a> {
    /// The distribution.
    pub name: &'a str,
    /// The directory with the templates.
    pub dir: &'a Path,
    /// The file that is generated from it.
    pub place: &'a Place,
}

impl Template<'_> {
    /// See [`crate::engines::engine::Engine::changes`].
    pub fn changes(
        &self,
        host: &Host,
        files: &Files,
        wanted: &SetupOptions,
    ) -> Result<Vec<Change>, Error> {
        let mut files = files.clone();
        let schema = Schema::of(&files, self.place.version)?;
        let path = self.path(&schema);
        let before = files.text_or_read(host, &path)?;
        let text = before.as_deref().unwrap_or(BASE);
        let refused = |fault| Err(Error::config(&path, fault));
        let broken = |e: EditError| Error::config(&path, ConfigFault::text(ConfigReader::Plain)(e));
        if block::find(text, BEGIN, END).map_err(broken)?.is_some() {
            // Our settings in the generated file came from these lines.
            for file in &mut files.read {
                forget(file, &schema, &wanted.runtime_name);
            }
        }
        let view = View::new(&files, &schema, true);
        let wanted = self.can_be_added(host, &view, &path, wanted)?;
        let missing = settings::missing(host, &view, schema.cri, &wanted, self.place.version)?;
        // At the end of a file, only tables that do not exist yet can be added.
        let (runtime, rest): (Vec<Setting>, Vec<Setting>) = missing
            .into_iter()
            .partition(|s| s.keys.iter().any(|k| k == "runtimes"));
        if runtime.is_empty() {
            return match rest.first().filter(|_| wanted.mode == Mode::Cdi) {
                Some(setting) if wanted.existing != Existing::Leave => {
                    let key = setting.keys.join(".");
                    refused(ConfigFault::InTemplate { key })
                }
                _ => Ok(Vec::new()),
            };
        }
        let pairs: Vec<_> = runtime
            .iter()
            .map(|s| (s.keys.clone(), s.value.clone()))
            .collect();
        let lines = toml::set("", &pairs).map_err(broken)?;
        if lines.contains("{{") {
            return refused(ConfigFault::TemplateMarks);
        }
        let after = block::set(text, BEGIN, END, &lines).map_err(broken)?;
        let mut why = format!(
            "add runtime {:?} to what {} makes its config.toml of",
            wanted.runtime_name, self.name
        );
        if !rest.is_empty() {
            why.push_str("; CDI stays off, as the built-in template has that table");
        }
        let change = Change {
            path,
            before,
            after: Some(after),
            // The same mode as that of the file that k3s generates.
            mode: 0o600,
            why,
            kind: MergeKind::Block {
                begin: BEGIN.into(),
                end: END.into(),
            },
        };
        Ok(Some(change).into_iter().filter(Change::is_needed).collect())
    }

    /// What the next start makes of a template that it has not read yet; `None` if there is none.
    pub fn pending(&self, host: &Host, files: &Files) -> Result<Option<PendingTemplate>, Error> {
        let is_of_2 = files.root().and_then(|r| r.version()?.as_integer()) >= Some(3)
            || self.place.version >= (2, 0);
        // Where both are there, the newer one counts (k3s pkg/agent/containerd/config.go).
        let names = if is_of_2 { &NAMES[..] } else { &NAMES[..1] };
        for name in names.iter().rev() {
            let path = self.dir.join(name);
            let Some(text) = files.text_or_read(host, &path)? else {
                continue;
            };
            let rendered = files.text(&files.root).unwrap_or_default();
            return Ok(PendingTemplate::of(path, &text, rendered));
        }
        Ok(None)
    }

    fn path(&self, schema: &Schema) -> PathBuf {
        self.dir.join(match schema.version {
            Some(3..) => NAMES[1],
            _ => NAMES[0],
        })
    }

    /// The options, without the runtime if a template that is not read yet has one of its name.
    pub fn beside_pending(
        &self,
        pending: Option<&PendingTemplate>,
        wanted: &SetupOptions,
    ) -> Result<SetupOptions, Error> {
        let name = wanted.runtime_name.as_str();
        let theirs =
            pending.filter(|p| wanted.mode != Mode::Cdi && p.runtimes.iter().any(|r| r == name));
        let Some(pending) = theirs else {
            return Ok(wanted.clone());
        };
        let refused = match wanted.existing {
            Existing::Leave => {
                return Ok(SetupOptions {
                    mode: Mode::Cdi,
                    ..wanted.clone()
                });
            }
            Existing::Refuse => settings::theirs(&pending.path, name, None),
            Existing::Adopt => {
                let binary = format!("the runtime {name:?} of that template");
                let engine = self.name.to_owned();
                Error::config(
                    &pending.path,
                    ConfigFault::DefinedByEngine { binary, engine },
                )
            }
        };
        Err(refused)
    }

    /// Fails if the restart that the changes need would make the engine read a template of which it is not known whether
    /// its node comes up with it.
    pub fn ensure_restart_is_safe(&self, pending: Option<&PendingTemplate>) -> Result<(), Error> {
        match pending.filter(|p| !p.has_base) {
            None => Ok(()),
            Some(pending) => {
                let engine = self.name.to_owned();
                let fault = ConfigFault::TemplateNotRead { engine };
                Err(Error::config(&pending.path, fault))
            }
        }
    }

    /// The options, without the runtime if one of its name exists or will exist.
    fn can_be_added(
        &self,
        host: &Host,
        view: &View,
        path: &Path,
        wanted: &SetupOptions,
    ) -> Result<SetupOptions, Error> {
        let mut wanted = wanted.clone();
        if wanted.mode == Mode::Cdi {
            return Ok(wanted);
        }
        // Told so already, it makes ours the default itself.
        let is_told = wanted.given_default.as_deref() == Some(&wanted.runtime_name);
        if wanted.default_runtime && !is_told {
            let engine = self.name.to_owned();
            return Err(Error::config(path, ConfigFault::DefaultOfEngine { engine }));
        }
        let Some(binary) = there_anyway(host, view, &wanted.runtime_name) else {
            return Ok(wanted);
        };
        if !wanted.is_our_shim(host, &binary) {
            match wanted.existing {
                Existing::Leave => {}
                Existing::Refuse => {
                    let name = &wanted.runtime_name;
                    return Err(settings::theirs(&self.place.root, name, Some(&binary)));
                }
                Existing::Adopt => {
                    let engine = self.name.to_owned();
                    return Err(Error::config(
                        path,
                        ConfigFault::DefinedByEngine { binary, engine },
                    ));
                }
            }
        }
        // Leave out what could not be added.
        wanted.mode = Mode::Cdi;
        wanted.existing = Existing::Leave;
        Ok(wanted)
    }
}

/// The program of a runtime of that name that is in the file already, or will be after the next
/// start: k3s looks for it on its PATH, and earlier releases also in the GPU operator's directory
/// (k3s pkg/agent/containerd/runtimes.go).
fn there_anyway(host: &Host, view: &View, name: &str) -> Option<String> {
    let runtime = ["containerd", "runtimes", name];
    if view.get(&runtime).is_some() {
        let binary = view.text(&[&runtime[..], &["options", "BinaryName"]].concat());
        return Some(binary.unwrap_or("its own program").to_owned());
    }
    if name != "nvidia" {
        return None;
    }
    let dirs = ["/usr/local/nvidia/toolkit"]
        .into_iter()
        .chain(programs::DIRS);
    dirs.map(|dir| format!("{dir}/nvidia-container-runtime"))
        .find(|path| host.root().exists(path))
}

/// Removes a runtime from what was read.
fn forget(file: &mut File, schema: &Schema, name: &str) {
    let mut keys = schema.cri.iter().chain(&["containerd", "runtimes"]);
    let runtimes = keys.try_fold(file.document.as_item_mut(), |at, key| at.get_mut(key));
    if let Some(runtimes) = runtimes.and_then(Item::as_table_like_mut) {
        TableLike::remove(runtimes, name);
    }
}
