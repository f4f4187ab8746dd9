//! Plans our runtime's table, which has the settings of another one with our program, and puts the low-level program of that
//! one first in the shim's list.

use std::path::{Path, PathBuf};

use toml_edit::Value;

use super::config::MergedConfig;
use super::installation::Installation;
use super::table::{Base, edited, values};
use crate::edit::meaning;
use crate::error::Error;
use crate::error::config_fault::ConfigFault;
use crate::host::Host;
use crate::host::policy_file::HostPolicy;
use crate::model::change::{Change, MergeKind};
use crate::model::setup_options::{Existing, SetupOptions};

impl Installation {
    /// Whether we may write the runtime; an error if the user has to decide.
    pub(super) fn is_free(
        &self,
        host: &Host,
        merged: &MergedConfig,
        wanted: &SetupOptions,
    ) -> Result<bool, Error> {
        let name = &wanted.runtime_name;
        let Some((path, table)) = merged.runtime(name) else {
            return Ok(true);
        };
        let theirs = table.get("runtime_path").and_then(|p| p.as_str());
        let by_flag = merged.flag_of_runtime(name);
        if let Some((path, flag)) = by_flag.filter(|_| wanted.existing != Existing::Leave) {
            let (flag, ours) = (flag.to_owned(), self.file());
            return Err(Error::config(path, ConfigFault::FlagFirst { flag, ours }));
        }
        if by_flag.is_none() && host.root().exists(self.drop_in()) {
            // An earlier run replaced it.
            return Ok(true);
        }
        if theirs.map(Path::new) == Some(&wanted.runtime_path) {
            // Written by hand, with our program.
            return Ok(wanted.default_runtime);
        }
        match wanted.existing {
            Existing::Leave => Ok(false),
            Existing::Adopt => Ok(true),
            Existing::Refuse => {
                let program = theirs.unwrap_or("no runtime_path");
                let fault = ConfigFault::OtherRuntime {
                    name: name.clone(),
                    whose: format!("that is not ours ({program})"),
                    is_operators: false,
                    cdi_suffices: false,
                };
                Err(Error::config(path, fault))
            }
        }
    }

    /// The change that adds the runtime's table, in our drop-in or in crio.conf.
    pub(super) fn runtime(
        &self,
        host: &Host,
        merged: &MergedConfig,
        base: &Base,
        wanted: &SetupOptions,
    ) -> Result<Change, Error> {
        let why = format!(
            "add runtime {:?}, with the settings of {}",
            wanted.runtime_name, base.name
        );
        let values = values(base, wanted);
        let path = self.file();
        let in_place = path == self.config;
        let before = if in_place {
            merged.text_of(&path).map(str::to_owned)
        } else {
            host.text(&path)?
        };
        let table: &[&str] = &["crio", "runtime", "runtimes", &wanted.runtime_name];
        let default: &[&str] = &["crio", "runtime", "default_runtime"];
        let is_default = merged.text(default) == Some(&wanted.runtime_name);
        let keys = if wanted.default_runtime && !is_default {
            vec![table, default]
        } else {
            vec![table]
        };
        merged.ensure_seen(&path, &keys)?;
        let text = before.as_deref().filter(|_| in_place);
        let mut after = edited(&path, text, &values)?;
        // Another program has rewritten the file in its own style.
        if let Some(before) = before.as_ref().filter(|b| meaning::same_text(b, &after)) {
            after.clone_from(before);
        }
        Ok(Change {
            path,
            before,
            after: Some(after),
            mode: 0o644,
            why,
            kind: if in_place {
                MergeKind::Toml {
                    keys: values.into_iter().map(|(k, _)| k).collect(),
                }
            } else {
                MergeKind::Own
            },
        })
    }
}

/// Puts the low-level program first in the shim's list, so that ours makes containers with the same one whatever is installed
/// later. CRI-O's packages keep crun and runc in a directory where the shim would not find them, and CRI-O starts and deletes
/// containers without the environment that it gives its monitor, so only the shim's own file can name it.
///
/// The list is one for all. Where another engine or runtime uses it too, its program stays the one, and `warnings` says so.
pub(super) fn low_level(
    at: &Installation,
    host: &Host,
    merged: &MergedConfig,
    base: &Base,
    file: &HostPolicy,
    wanted: &SetupOptions,
) -> Result<Option<Change>, Error> {
    let HostPolicy {
        text: before,
        policy,
    } = file;
    let has_one = || policy.runtimes.iter().any(|r| host.has_program(r));
    if base.is_by_list
        || at.begins_with(host, &policy.runtimes, base)
        || Installation::shares_list(host, merged, wanted) && has_one()
    {
        return Ok(None);
    }
    let path = PathBuf::from(gpu_inject::policy::PATH);
    let own = base.program.display().to_string();
    let others = policy.runtimes.iter().filter(|r| **r != own);
    let list: Value = std::iter::once(&own).chain(others).collect();
    let keys = ["nvidia-container-runtime", "runtimes"].map(str::to_owned);
    let values = vec![(keys.to_vec(), list)];
    let after = edited(&path, before.as_deref(), &values)?;
    Ok(Some(Change {
        path,
        before: before.clone(),
        after: Some(after),
        mode: 0o644,
        why: format!("so that the runtime makes containers with {own}, as CRI-O does"),
        kind: MergeKind::Toml {
            keys: values.into_iter().map(|(k, _)| k).collect(),
        },
    }))
}
