//! Every key of config.toml, and whether it has an effect here.
//!
//! Source: nvidia-container-toolkit 1.20, `api/config/v1/*.go`; the table `gpu-container` is ours.

use toml::{Table, Value};

/// A key of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The key with its tables, such as `nvidia-container-cli.root`.
    pub name: &'static str,
    /// Why it has no effect here; `None` if it has one.
    pub unused: Option<&'static str>,
}

const fn used(name: &'static str) -> Key {
    Key { name, unused: None }
}

const fn unused(name: &'static str, why: &'static str) -> Key {
    Key {
        name,
        unused: Some(why),
    }
}

const NO_CHILD: &str = "no nvidia-container-cli is started; what it did is done in place";
const NO_LDCONFIG: &str = "no ldconfig is run, the host's or the image's; the cache is written";
const OWN_HOOK: &str = "the hook is gpu-container-hook, wherever it was found";
const NEVER_MOUNTED: &str =
    "an image's own libraries are never mounted; where they are right they come first in the cache";

/// The keys, in the order of the vendor's documentation.
pub const KEYS: [Key; 41] = [
    used("disable-require"),
    used("swarm-resource"),
    used("accept-nvidia-visible-devices-envvar-when-unprivileged"),
    used("accept-nvidia-visible-devices-as-volume-mounts"),
    used("supported-driver-capabilities"),
    used("nvidia-container-cli.root"),
    unused("nvidia-container-cli.path", NO_CHILD),
    unused("nvidia-container-cli.environment", NO_CHILD),
    used("nvidia-container-cli.debug"),
    unused(
        "nvidia-container-cli.ldcache",
        "the driver root's own cache is read, and its library directories",
    ),
    unused(
        "nvidia-container-cli.load-kmods",
        "the distribution loads the modules; gpusetup-cdi.service makes missing nodes when the host starts",
    ),
    unused("nvidia-container-cli.no-pivot", NO_LDCONFIG),
    used("nvidia-container-cli.no-cgroups"),
    unused(
        "nvidia-container-cli.user",
        "no driver process is started, so none needs a user",
    ),
    unused("nvidia-container-cli.ldconfig", NO_LDCONFIG),
    unused("nvidia-ctk.path", OWN_HOOK),
    used("nvidia-container-runtime.debug"),
    used("nvidia-container-runtime.log-level"),
    used("nvidia-container-runtime.runtimes"),
    used("nvidia-container-runtime.mode"),
    used("nvidia-container-runtime.modes.cdi.spec-dirs"),
    used("nvidia-container-runtime.modes.cdi.default-kind"),
    used("nvidia-container-runtime.modes.cdi.annotation-prefixes"),
    used("nvidia-container-runtime.modes.csv.mount-spec-path"),
    used("nvidia-container-runtime.modes.csv.compat-container-root"),
    used("nvidia-container-runtime.modes.jit-cdi.nvcdi-feature-flags"),
    used("nvidia-container-runtime.modes.jit-cdi.nvcdi-disable-hooks"),
    used("nvidia-container-runtime.modes.legacy.cuda-compat-mode"),
    unused("nvidia-container-runtime-hook.path", OWN_HOOK),
    unused(
        "nvidia-container-runtime-hook.skip-mode-detection",
        "the hook works in every mode and never refuses one",
    ),
    unused(
        "features.allow-cuda-compat-libs-from-container",
        NEVER_MOUNTED,
    ),
    unused("features.allow-ldconfig-from-container", NO_LDCONFIG),
    unused(
        "features.allow-unknown-oci-spec-fields",
        "fields of config.json that are not known are always kept",
    ),
    used("features.disable-cuda-compat-lib-hook"),
    unused(
        "features.disable-imex-channel-creation",
        "a container start makes no nodes on the host",
    ),
    used("features.ignore-imex-channel-requests"),
    used("features.no-additional-gids-for-device-nodes"),
    used("gpu-container.allowed-cdi-kinds"),
    used("gpu-container.allowed-cdi-kinds-in-annotations"),
    used("gpu-container.inventory"),
    used("gpu-container.mounts"),
];

/// The keys of `table` that are not in [`KEYS`], and those that have no effect here.
pub(super) fn unknown_and_unused(table: &Table) -> (Vec<String>, Vec<Key>) {
    let mut names = Vec::new();
    flatten("", table, &mut names);
    let mut unknown = Vec::new();
    let mut without_effect = Vec::new();
    for name in names {
        match KEYS.iter().find(|k| k.name == name) {
            None => unknown.push(name),
            Some(key) if key.unused.is_some() => without_effect.push(*key),
            Some(_) => {}
        }
    }
    (unknown, without_effect)
}

fn flatten(prefix: &str, table: &Table, names: &mut Vec<String>) {
    for (key, value) in table {
        let name = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        match value {
            Value::Table(inner) => flatten(&name, inner, names),
            _ => names.push(name),
        }
    }
}
