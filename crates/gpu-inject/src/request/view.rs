//! The parts of an OCI config that a request is read from.

use serde_json::Value;

/// A container's config.json, looked at for a request.
#[derive(Clone, Copy, Debug)]
pub struct ContainerView<'a>(&'a Value);

impl<'a> ContainerView<'a> {
    /// Looks at `config`, the whole config.json.
    pub fn new(config: &'a Value) -> Self {
        Self(config)
    }

    /// The value of an environment variable; the last one wins, as in execve(2)'s readers.
    pub fn env(&self, name: &str) -> Option<&'a str> {
        self.variables()
            .filter(|(k, _)| *k == name)
            .last()
            .map(|(_, v)| v)
    }

    /// Environment variables in order. An entry without `=` is none, and no error: a
    /// container may have one, the kernel does not mind.
    pub fn variables(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .pointer("/process/env")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str()?.split_once('='))
    }

    /// `annotations`.
    pub fn annotations(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .get("annotations")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(k, v)| Some((k.as_str(), v.as_str()?)))
    }

    /// Whether it may do everything on the host anyway: `CAP_SYS_ADMIN` in its bounding set.
    /// The set that a process of any user in it is limited by, so a container started with
    /// `--privileged --user 1000` counts (nvidia-container-toolkit `internal/config/image`).
    pub fn is_privileged(&self) -> bool {
        self.0
            .pointer("/process/capabilities/bounding")
            .and_then(Value::as_array)
            .is_some_and(|list| list.iter().any(|c| c == "CAP_SYS_ADMIN"))
    }

    /// `root.path` as written.
    pub fn root_path(&self) -> Option<&'a str> {
        self.0.pointer("/root/path")?.as_str()
    }

    /// (source, destination) of each mount.
    pub(super) fn mounts(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .get("mounts")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|m| Some((m.get("source")?.as_str()?, m.get("destination")?.as_str()?)))
    }
}
