//! Who may ask for what: `/etc/nvidia-container-runtime/config.toml`.
//!
//! The keys keep the meaning that nvidia-container-toolkit 1.17 gives them
//! (`api/config/v1`), so that a host that has the file keeps its policy.

use std::path::{Path, PathBuf};

use gpu_host::{Capabilities, Root};
use toml::{Table, Value};

use crate::error::Error;
use crate::request::parse_capabilities;

/// Where it is.
pub const PATH: &str = "/etc/nvidia-container-runtime/config.toml";

/// What the file says, or the defaults.
#[allow(clippy::struct_excessive_bools, reason = "the file's own switches")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The file, for messages.
    pub path: PathBuf,
    /// `accept-nvidia-visible-devices-envvar-when-unprivileged`.
    pub accept_unprivileged: bool,
    /// `accept-nvidia-visible-devices-as-volume-mounts`.
    pub accept_mounts: bool,
    /// `disable-require`.
    pub disable_require: bool,
    /// `supported-driver-capabilities`.
    pub supported: Capabilities,
    /// `nvidia-container-cli.no-cgroups`: leave the device cgroup alone.
    pub no_cgroups: bool,
    /// `nvidia-container-cli.root`: the driver root.
    pub driver_root: PathBuf,
    /// `nvidia-container-runtime.runtimes`: low-level runtimes, the first found is used.
    pub runtimes: Vec<String>,
    /// `gpu-container.inventory`: a stored inventory to use instead of the host's own.
    pub inventory: Option<PathBuf>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            path: PATH.into(),
            accept_unprivileged: true,
            accept_mounts: false,
            disable_require: false,
            supported: Capabilities::ALL,
            no_cgroups: false,
            driver_root: "/".into(),
            runtimes: vec!["runc".into(), "crun".into()],
            inventory: None,
        }
    }
}

impl Policy {
    /// The file of that tree; the defaults where there is none.
    pub fn load(root: &Root) -> Result<Self, Error> {
        Self::load_from(root, Path::new(PATH))
    }

    /// The same from another place.
    pub fn load_from(root: &Root, path: &Path) -> Result<Self, Error> {
        match root.read_to_string(path) {
            Ok(text) => Self::from_toml(&text, path),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(Error::host(path)(e)),
        }
    }

    /// Keys we do not know are left alone; a known key of a wrong type is an error,
    /// since a policy must not be weaker than it reads.
    pub fn from_toml(text: &str, path: &Path) -> Result<Self, Error> {
        let wrong = |why: String| Error::Policy {
            path: path.to_owned(),
            why,
        };
        let table: Table = text
            .parse()
            .map_err(|e: toml::de::Error| wrong(e.to_string()))?;
        let keys = Keys {
            table: &table,
            path,
        };
        let mut policy = Self {
            path: path.to_owned(),
            ..Self::default()
        };
        let flag = |key: &str, to: &mut bool| -> Result<(), Error> {
            if let Some(value) = keys.get(key, "true or false", Value::as_bool)? {
                *to = value;
            }
            Ok(())
        };
        flag(
            "accept-nvidia-visible-devices-envvar-when-unprivileged",
            &mut policy.accept_unprivileged,
        )?;
        flag(
            "accept-nvidia-visible-devices-as-volume-mounts",
            &mut policy.accept_mounts,
        )?;
        flag("disable-require", &mut policy.disable_require)?;
        flag("nvidia-container-cli.no-cgroups", &mut policy.no_cgroups)?;
        let text = |key: &str| keys.get(key, "a string", |v| v.as_str().map(str::to_owned));
        if let Some(list) = text("supported-driver-capabilities")? {
            policy.supported = parse_capabilities(&list)?;
        }
        if let Some(root) = text("nvidia-container-cli.root")?.filter(|r| !r.is_empty()) {
            policy.driver_root = root.into();
        }
        policy.inventory = text("gpu-container.inventory")?.map(PathBuf::from);
        let words = |v: &Value| {
            let list = v.as_array()?;
            list.iter().map(|w| w.as_str().map(str::to_owned)).collect()
        };
        let runtimes: Option<Vec<String>> = keys.get(
            "nvidia-container-runtime.runtimes",
            "a list of strings",
            words,
        )?;
        if let Some(list) = runtimes.filter(|l| !l.is_empty()) {
            policy.runtimes = list;
        }
        Ok(policy)
    }
}

struct Keys<'a> {
    table: &'a Table,
    path: &'a Path,
}

impl Keys<'_> {
    fn get<T>(
        &self,
        key: &str,
        wanted: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let mut parts = key.split('.');
        let first = parts.next().and_then(|p| self.table.get(p));
        let found = parts.fold(first, |at, part| at.and_then(|v| v.get(part)));
        found
            .map(|value| {
                read(value).ok_or_else(|| Error::Policy {
                    path: self.path.to_owned(),
                    why: format!("{key} is not {wanted}"),
                })
            })
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_keys_are_read_and_unknown_ones_left() {
        let policy = Policy::from_toml(
            "disable-require = true\nsupported-driver-capabilities = \"utility\"\nodd = 1\n\
             [nvidia-container-cli]\nroot = \"/run/nvidia/driver\"\nno-cgroups = true\n\
             [nvidia-container-runtime]\nruntimes = [\"crun\"]\n",
            Path::new(PATH),
        )
        .unwrap();
        assert!(policy.disable_require && policy.no_cgroups && policy.accept_unprivileged);
        assert_eq!(policy.driver_root, Path::new("/run/nvidia/driver"));
        assert_eq!(policy.runtimes, ["crun"]);
        assert_eq!(policy.supported.to_string(), "utility");
    }

    #[test]
    fn a_policy_that_cannot_be_read_lets_nothing_start() {
        for text in [
            "disable-require = \"no\"",
            "[",
            "nvidia-container-runtime.runtimes = [1]",
        ] {
            assert!(Policy::from_toml(text, Path::new(PATH)).is_err(), "{text}");
        }
    }
}
