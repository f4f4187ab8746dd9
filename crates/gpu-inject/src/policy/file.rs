//! Reads single keys of the policy's file. A value of the wrong type is an error that names the key.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::kinds;
use crate::error::Error;

pub(super) struct PolicyFile<'a> {
    pub(super) table: &'a Table,
    pub(super) path: &'a Path,
}

impl PolicyFile<'_> {
    pub(super) fn invalid_value(&self, key: &str, why: &str) -> Error {
        Error::Policy {
            path: self.path.to_owned(),
            why: format!("{key}: {why}"),
        }
    }

    fn get<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let mut current: Option<&Value> = None;
        for part in key.split('.') {
            let table = match current {
                None => self.table,
                Some(Value::Table(table)) => table,
                Some(_) => return Err(self.invalid_value(key, "what it is in is no table")),
            };
            match table.get(part) {
                Some(value) => current = Some(value),
                None => return Ok(None),
            }
        }
        current
            .map(|value| {
                read(value).ok_or_else(|| self.invalid_value(key, &format!("not {expected}")))
            })
            .transpose()
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, Error> {
        self.get(key, "true or false", Value::as_bool)
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<String>, Error> {
        self.get(key, "a string", |v| v.as_str().map(str::to_owned))
    }

    pub(super) fn path(&self, key: &str) -> Result<Option<PathBuf>, Error> {
        Ok(self.text(key)?.filter(|t| !t.is_empty()).map(PathBuf::from))
    }

    /// A log file. `None` for /dev/null, which is the vendor's default.
    pub(super) fn log(&self, key: &str) -> Result<Option<PathBuf>, Error> {
        Ok(self.path(key)?.filter(|p| p != Path::new("/dev/null")))
    }

    pub(super) fn list(&self, key: &str) -> Result<Option<Vec<String>>, Error> {
        self.get(key, "a list of strings", |v| {
            let list = v.as_array()?;
            list.iter().map(|w| w.as_str().map(str::to_owned)).collect()
        })
    }

    /// Names that are separated by commas.
    pub(super) fn names(&self, key: &str) -> Result<Vec<String>, Error> {
        let text = self.text(key)?.unwrap_or_default();
        let names = text.split(',').map(str::trim);
        Ok(names.filter(|n| !n.is_empty()).map(str::to_owned).collect())
    }

    pub(super) fn kinds(&self, key: &str) -> Result<Vec<String>, Error> {
        let kinds = self.list(key)?.unwrap_or_default();
        match kinds.iter().find(|kind| !kinds::is_pattern(kind)) {
            None => Ok(kinds),
            Some(bad) => Err(self.invalid_value(
                key,
                &format!("invalid kind {bad:?}; one is vendor/class, or vendor/* for all classes of a vendor"),
            )),
        }
    }

    pub(super) fn word<T>(
        &self,
        key: &str,
        read: impl Fn(&str) -> Option<T>,
        words: &str,
    ) -> Result<Option<T>, Error> {
        let Some(word) = self.text(key)? else {
            return Ok(None);
        };
        let value = read(&word).ok_or_else(|| {
            self.invalid_value(key, &format!("invalid value {word:?}; it can be {words}"))
        })?;
        Ok(Some(value))
    }
}
