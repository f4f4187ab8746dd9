//! Turns settings into changes: chooses the file for each, and checks that the settings take effect
//! there.

use std::path::PathBuf;

use toml_edit::Value;

use super::files::{Files, HEADER};
use super::schema::Schema;
use super::settings::{self, Setting};
use super::view::View;
use crate::edit::{meaning, toml};
use crate::error::Error;
use crate::error::config_fault::{ConfigFault, ConfigReader};
use crate::host::Host;
use crate::model::change::{Change, MergeKind};
use crate::model::setup_options::SetupOptions;

/// The name of our drop-in.
pub const DROP_IN: &str = "50-gpusetup.toml";

/// The configuration of one containerd, and the rules by which it reads it.
#[derive(Clone, Debug)]
pub struct Place {
    /// The root file.
    pub root: PathBuf,
    /// The daemon's version.
    pub version: (u32, u32),
    /// Whether the tables of all files are merged.
    pub merges: bool,
    /// A path that is imported in place of the root file's imports.
    pub instead: Option<PathBuf>,
    /// Whether every start generates the root file again, so that it cannot be edited.
    pub is_generated: bool,
}

impl Place {
    /// A containerd with its usual rules: tables are merged from 2.0 on.
    pub fn plain(root: PathBuf, version: (u32, u32)) -> Self {
        Self {
            root,
            version,
            merges: version >= (2, 0),
            instead: None,
            is_generated: false,
        }
    }

    /// Reads its files.
    pub fn files(&self, host: &Host) -> Result<Files, Error> {
        Files::read(host, &self.root, self.instead.as_deref())
    }

    /// The path at which a drop-in of ours would be read and merged.
    pub fn drop_in(&self, files: &Files) -> Option<PathBuf> {
        files.drop_in(DROP_IN).filter(|_| self.merges)
    }

    /// The changes that apply the options.
    pub fn changes(
        &self,
        host: &Host,
        files: &Files,
        wanted: &SetupOptions,
    ) -> Result<Vec<Change>, Error> {
        let schema = Schema::of(files, self.version)?;
        let view = View::new(files, &schema, self.merges);
        let mut settings = settings::missing(host, &view, schema.cri, wanted, self.version)?;
        if settings.is_empty() {
            return Ok(Vec::new());
        }
        let drop_in = self.drop_in(files);
        let target = match &drop_in {
            Some(path) => path.clone(),
            // If only the settings of one imported file count, ours must be in that file.
            None => view
                .last_file()
                .filter(|_| !self.merges)
                .map_or(self.root.clone(), |f| f.path.clone()),
        };
        for setting in &mut settings {
            let at_root = setting.file.as_deref() == Some(&self.root);
            if setting.file.is_none() || (at_root && self.is_generated) {
                setting.file = Some(target.clone());
            }
        }
        let mut changes = Vec::new();
        for path in paths(&settings) {
            let its: Vec<&Setting> = settings
                .iter()
                .filter(|s| s.file.as_ref() == Some(&path))
                .collect();
            let before = files.text_or_read(host, &path)?;
            changes.push(self.change(path, before, &schema, &its, wanted)?);
        }
        changes.retain(Change::is_needed);
        let after = files.after(host, self.instead.as_deref(), &changes)?;
        self.all_count(&schema, &settings, &after)?;
        Ok(changes)
    }

    fn change(
        &self,
        path: PathBuf,
        before: Option<String>,
        schema: &Schema,
        settings: &[&Setting],
        wanted: &SetupOptions,
    ) -> Result<Change, Error> {
        let is_root = path == self.root;
        let is_own = !is_root && before.as_ref().is_none_or(|t| t.starts_with(HEADER));
        let mut values: Vec<(Vec<String>, Value)> = Vec::new();
        if let Some(version) = schema.version.filter(|_| is_own || before.is_none()) {
            values.push((vec!["version".into()], version.into()));
        }
        values.extend(settings.iter().map(|s| (s.keys.clone(), s.value.clone())));
        let text = before.as_deref().filter(|_| !is_own).unwrap_or_default();
        let set = toml::set(text, &values)
            .map_err(ConfigFault::text(ConfigReader::Plain))
            .map_err(|fault| Error::config(&path, fault))?;
        let after = match &before {
            _ if !is_own => set,
            // Another program has rewritten the file in its own style.
            Some(before) if meaning::same_text(before, &set) => before.clone(),
            _ => format!("{HEADER}{set}"),
        };
        let mut why = summary(settings, wanted);
        let kind = if is_own {
            if let Some(version) = schema.version {
                why.push_str(&format!(
                    ", same schema ({version}) as {}",
                    self.root.display()
                ));
            }
            MergeKind::Own
        } else {
            if !is_root && !self.merges {
                why.push_str("; before 2.0 the last file with settings of CRI is all that counts");
            }
            MergeKind::Toml {
                keys: values.into_iter().map(|(k, _)| k).collect(),
            }
        };
        Ok(Change {
            path,
            before,
            after: Some(after),
            mode: 0o644,
            why,
            kind,
        })
    }

    /// Fails if a file that is read later overrides one of the settings.
    fn all_count(&self, schema: &Schema, settings: &[Setting], after: &Files) -> Result<(), Error> {
        let view = View::new(after, schema, self.merges);
        let Some((setting, path)) = settings::shadowed(settings, &view, schema.cri.len(), after)
        else {
            return Ok(());
        };
        let key = setting.keys.join(".");
        let fault = ConfigFault::Overrides { key };
        Err(Error::Config { path, fault })
    }
}

fn paths(settings: &[Setting]) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for path in settings.iter().filter_map(|s| s.file.clone()) {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

/// What the settings do, for the plan.
pub fn summary(settings: &[&Setting], wanted: &SetupOptions) -> String {
    let has = |key: &str| {
        settings
            .iter()
            .any(|s| s.keys.last().is_some_and(|k| k == key))
    };
    let name = &wanted.runtime_name;
    let mut phrases = Vec::new();
    if has("BinaryName")
        && settings
            .iter()
            .all(|s| s.keys.last().is_none_or(|k| k != "runtime_type"))
    {
        phrases.push(format!("runtime {name:?} starts our program"));
    } else if settings.iter().any(|s| s.keys.contains(name)) {
        phrases.push(format!("add runtime {name:?}"));
    }
    if has("default_runtime_name") {
        phrases.push(format!("make {name:?} the default"));
    }
    if has("enable_cdi") {
        phrases.push("turn on CDI".into());
    }
    phrases.join("; ")
}
