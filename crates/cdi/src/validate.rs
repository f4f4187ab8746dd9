//! Checks a spec against the specification.

use std::collections::HashSet;
use std::path::Path;

use crate::Error;
use crate::name::{is_device, is_kind};
use crate::spec::{ContainerEdits, Spec};
use crate::version;

/// The hook stages (OCI runtime specification 1.2, "POSIX-platform Hooks").
const HOOKS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

fn invalid(key: impl Into<String>, why: impl Into<String>) -> Error {
    Error::Invalid {
        key: key.into(),
        why: why.into(),
    }
}

impl Spec {
    /// Checks the spec by the rules of the library that engines read specs with, which are stricter
    /// than the specification: it refuses a whole spec for a device without edits
    /// (tags.cncf.io/container-device-interface, `Device.validate`).
    pub fn validate_as_engines(&self) -> Result<(), Error> {
        self.validate()?;
        let mut devices = self.devices.iter().enumerate();
        match devices.find(|(_, device)| device.container_edits.is_empty()) {
            Some((n, device)) => Err(invalid(
                format!("devices[{n}].containerEdits"),
                format!(
                    "none for the device {:?}, so that no engine reads this spec",
                    device.name
                ),
            )),
            None => Ok(()),
        }
    }

    /// Checks the spec. The error describes the first violation.
    pub fn validate(&self) -> Result<(), Error> {
        let number = |v: &str| version::KNOWN.iter().position(|k| *k == v);
        let Some(version) = number(self.cdi_version.trim_start_matches('v')) else {
            let known = version::KNOWN.join(", ");
            return Err(invalid(
                "cdiVersion",
                format!("{:?} is none of {known}", self.cdi_version),
            ));
        };
        let least = self.minimum_version();
        if number(least).is_some_and(|least| version < least) {
            let why = format!(
                "{} lacks what this spec uses; at least {least}",
                self.cdi_version
            );
            return Err(invalid("cdiVersion", why));
        }
        if !is_kind(&self.kind) {
            return Err(invalid(
                "kind",
                format!("{:?} is not vendor/class", self.kind),
            ));
        }
        if self.devices.is_empty() {
            return Err(invalid("devices", "none"));
        }
        let mut names = HashSet::new();
        for (n, device) in self.devices.iter().enumerate() {
            let key = format!("devices[{n}]");
            if !is_device(&device.name) {
                return Err(invalid(key, format!("{:?} is no device name", device.name)));
            }
            if !names.insert(&device.name) {
                return Err(invalid(key, format!("{:?} is there twice", device.name)));
            }
            edits(&format!("{key}.containerEdits"), &device.container_edits)?;
        }
        edits("containerEdits", &self.container_edits)
    }
}

fn edits(key: &str, edits: &ContainerEdits) -> Result<(), Error> {
    for (n, variable) in edits.env.iter().enumerate() {
        if variable.find('=').is_none_or(|at| at == 0) {
            return Err(invalid(format!("{key}.env[{n}]"), "not NAME=value"));
        }
    }
    for (n, node) in edits.device_nodes.iter().enumerate() {
        let key = format!("{key}.deviceNodes[{n}]");
        ensure_absolute(&key, "path", &node.path)?;
        if let Some(path) = &node.host_path {
            ensure_absolute(&key, "hostPath", path)?;
        }
        if node
            .kind
            .as_deref()
            .is_some_and(|k| !["b", "c", "u", "p"].contains(&k))
        {
            return Err(invalid(key, "type is none of b, c, u, p"));
        }
        let permissions = node.permissions.as_deref().unwrap_or_default();
        if !permissions.chars().all(|c| "rwm".contains(c)) {
            return Err(invalid(key, "permissions other than r, w, m"));
        }
    }
    for (n, hook) in edits.hooks.iter().enumerate() {
        let key = format!("{key}.hooks[{n}]");
        if !HOOKS.contains(&hook.hook_name.as_str()) {
            return Err(invalid(
                key,
                format!("no hook is named {:?}", hook.hook_name),
            ));
        }
        ensure_absolute(&key, "path", &hook.path)?;
    }
    for (n, mount) in edits.mounts.iter().enumerate() {
        let key = format!("{key}.mounts[{n}]");
        if mount.host_path.as_os_str().is_empty() {
            return Err(invalid(key, "no hostPath"));
        }
        ensure_absolute(&key, "containerPath", &mount.container_path)?;
    }
    Ok(())
}

fn ensure_absolute(key: &str, field: &str, path: &Path) -> Result<(), Error> {
    if path.is_absolute() {
        return Ok(());
    }
    Err(invalid(
        format!("{key}.{field}"),
        format!("{} is not absolute", path.display()),
    ))
}
