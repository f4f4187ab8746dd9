//! `gpusetup config`: reads and edits the policy file, and keeps its comments. The start path
//! reads the same file.

use std::path::Path;

use gpu_inject::policy::{self, KEYS, Policy};
use serde_json::json;
use toml_edit::{Array, Value};

use crate::cli::args::{Common, ConfigCommand};
use crate::commands::session::{EarlierRun, Rights, Session};
use crate::edit::toml as edit;
use crate::error::Error;
use crate::error::config_fault::{ConfigFault, ConfigReader};
use crate::error::edit_error::EditError;
use crate::error::exit::Exit;
use crate::error::invocation::Invocation;
use crate::host::Host;
use crate::host::copied_etc::CopiedEtc;
use crate::model::change::{Change, MergeKind};
use crate::terminal::stdio;
use crate::transaction::{regenerated, run};

/// The default file: every key with its default. Keys without a default are commented out.
const DEFAULT: &str = include_str!("../../config.toml");

pub fn run(host: &Host, common: &Common, command: &ConfigCommand) -> Result<Exit, Error> {
    let path = Path::new(policy::PATH);
    match command {
        ConfigCommand::Default => stdio::result(DEFAULT),
        ConfigCommand::Show => stdio::result(&host.text(path)?.unwrap_or_else(|| DEFAULT.into())),
        ConfigCommand::Get { key } => get(host, path, common, key)?,
        ConfigCommand::Set { settings, dry_run } => {
            return set(host, path, common, settings, *dry_run);
        }
    }
    Ok(Exit::Done)
}

fn get(host: &Host, path: &Path, common: &Common, key: &str) -> Result<(), Error> {
    let keys: Vec<&str> = key.split('.').collect();
    let of = |text: &str| -> Result<Option<Value>, Error> {
        let document = edit::parse(text).map_err(|e| bad(path, e))?;
        Ok(edit::get(&document, &keys)
            .and_then(|i| i.as_value())
            .cloned())
    };
    let stored = match host.text(path)? {
        Some(text) => of(&text)?,
        None => None,
    };
    let value = match stored {
        Some(value) => value,
        None => of(DEFAULT)?
            .or_else(|| known(key).is_some().then(|| Value::from("")))
            .ok_or_else(|| unknown(key))?,
    };
    // The value without the comment after it.
    let plain = match value.as_str() {
        Some(text) => text.to_owned(),
        None => value.decorated("", "").to_string(),
    };
    if common.json {
        stdio::result(&format!(
            "{}\n",
            json!({"schema": 1, "key": key, "value": plain})
        ));
    } else {
        stdio::result(&format!("{plain}\n"));
    }
    Ok(())
}

fn set(
    host: &Host,
    path: &Path,
    common: &Common,
    settings: &[String],
    dry_run: bool,
) -> Result<Exit, Error> {
    let mut values = Vec::new();
    for setting in settings {
        let (key, text) = setting.split_once('=').unwrap_or((setting, "true"));
        let kind = known(key).ok_or_else(|| unknown(key))?;
        let keys = key.split('.').map(str::to_owned).collect();
        values.push((
            keys,
            like(&kind, text).map_err(|why| invalid_value(key, why))?,
        ));
    }
    let changed = || -> Result<Change, Error> {
        let before = host.text(path)?;
        let from = before.clone().unwrap_or_else(|| DEFAULT.into());
        let after = edit::set(&from, &values).map_err(|e| bad(path, e))?;
        // The start path parses the file the same way; what it would refuse is not written.
        Policy::from_toml(&after, path)?;
        Ok(Change {
            path: path.into(),
            before,
            after: Some(after),
            mode: 0o644,
            why: format!("set {}", settings.join(", ")),
            kind: MergeKind::Own,
        })
    };
    if dry_run {
        let change = changed()?;
        stdio::result(change.after.as_deref().unwrap_or_default());
        return Ok(Exit::if_found(change.is_needed()));
    }
    for setting in settings {
        let key = setting.split('=').next().unwrap_or_default();
        if let Some(why) = KEYS.iter().find(|k| k.name == key).and_then(|k| k.unused) {
            stdio::say!("{key} has no effect: {why}");
        }
    }
    let session = Session::begin(host, common, Rights::System, EarlierRun::EndFirst)?.quiet();
    // Read again under the lock, so that another run's change is not overwritten.
    let change = changed()?;
    let is_needed = change.is_needed();
    if is_needed {
        run::edit(&session.context(), change)?;
        regenerated::keep_policy(host);
    }
    let later = path
        .parent()
        .map_or_else(Vec::new, |directory| CopiedEtc::without(host, directory));
    if common.json {
        let later: Vec<_> = later
            .iter()
            .map(|one| json!({"program": one.program, "pid": one.pid, "user": one.user}))
            .collect();
        let document = json!({"schema": 1, "changed": is_needed, "after_restart": later});
        stdio::result(&format!("{document}\n"));
        return Ok(Exit::Done);
    }
    for one in later {
        stdio::say!(
            "{} of {} (process {}) runs with a copy of /etc from before, and reads this only after a restart: `systemctl \
             --user restart docker` as {}",
            one.program,
            one.user,
            one.pid,
            one.user
        );
    }
    Ok(Exit::Done)
}

/// A value with the key's type: its default, or an example if it has none.
fn known(key: &str) -> Option<Value> {
    let with_examples: String = DEFAULT
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let document = edit::parse(&with_examples).ok()?;
    let keys: Vec<&str> = key.split('.').collect();
    edit::get(&document, &keys)?.as_value().cloned()
}

/// Parses the text as a value of the same type as `kind`. Lists are split at commas.
fn like(kind: &Value, text: &str) -> Result<Value, &'static str> {
    match kind {
        Value::Boolean(_) => match text {
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            _ => Err("true or false"),
        },
        Value::Array(_) => {
            let words = text.split(',').map(str::trim).filter(|w| !w.is_empty());
            Ok(Value::Array(words.collect::<Array>()))
        }
        _ => Ok(text.into()),
    }
}

fn unknown(key: &str) -> Error {
    Error::Usage(format!(
        "{key}: no such key; {} lists all",
        Invocation::ConfigDefault
    ))
}

fn invalid_value(key: &str, wanted: &str) -> Error {
    Error::Usage(format!("{key} takes {wanted}"))
}

fn bad(path: &Path, why: EditError) -> Error {
    Error::config(path, ConfigFault::text(ConfigReader::Shim)(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_file_contains_the_defaults() {
        let read = Policy::from_toml(DEFAULT, Path::new(policy::PATH)).unwrap();
        assert_eq!(read, Policy::default());
    }

    #[test]
    fn the_default_file_has_every_key_of_the_policy() {
        for key in KEYS {
            assert!(known(key.name).is_some(), "{}", key.name);
        }
    }

    #[test]
    fn every_key_has_a_type() {
        for (key, text) in [
            ("disable-require", "true"),
            ("nvidia-container-cli.no-cgroups", "true"),
            ("nvidia-container-runtime.runtimes", "crun,runc"),
            ("features.ignore-imex-channel-requests", "false"),
            ("swarm-resource", "A,B"),
        ] {
            let kind = known(key).unwrap_or_else(|| panic!("{key}"));
            assert!(like(&kind, text).is_ok(), "{key}");
        }
        assert!(known("nvidia-container-runtime.moed").is_none());
        assert!(known("Where").is_none());
        assert!(like(&true.into(), "yes").is_err());
    }
}
