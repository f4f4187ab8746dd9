//! What a container asks for, read from its OCI config.

use gpu_host::{Capabilities, Capability, Feature};
use serde_json::Value;

use crate::error::Error;
use crate::policy::Policy;

/// Parent of the mounts by which Kubernetes' device plugin may ask for devices
/// (nvidia-container-toolkit `internal/config/image/cuda_image.go`).
const REQUEST_MOUNTS: &str = "/var/run/nvidia-container-devices/";

/// The devices asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Visible {
    /// Not a GPU container: unset, empty or `void`.
    #[default]
    NotAsked,
    /// The driver's files without a GPU: `none`.
    NoGpu,
    /// Every GPU.
    All,
    /// Indices, UUIDs, `gpu:mig` pairs, CDI names, as written.
    These(Vec<String>),
}

/// The IMEX channels asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Imex {
    /// None.
    #[default]
    None,
    /// Every channel of the host.
    All,
    /// These.
    These(Vec<u32>),
}

/// What a container asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Which devices.
    pub visible: Visible,
    /// Which parts of the driver.
    pub capabilities: Capabilities,
    /// `NVIDIA_REQUIRE_*`, to be met all.
    pub requirements: Vec<String>,
    /// `NVIDIA_GDS`, `NVIDIA_MOFED`, `NVIDIA_GDRCOPY`, `NVIDIA_NVSWITCH` = `enabled`.
    pub features: Vec<Feature>,
    /// `NVIDIA_IMEX_CHANNELS`.
    pub imex: Imex,
    /// `NVIDIA_MIG_CONFIG_DEVICES=all`: may partition the GPUs.
    pub mig_config: bool,
    /// `NVIDIA_MIG_MONITOR_DEVICES=all`: may watch all slices.
    pub mig_monitor: bool,
}

/// The parts of an OCI config that a request is read from.
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

    fn variables(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
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

    /// Devices asked for by mounts from /dev/null below [`REQUEST_MOUNTS`].
    fn mounts(self) -> Vec<String> {
        self.0
            .get("mounts")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter(|m| m.get("source").and_then(Value::as_str) == Some("/dev/null"))
            .filter_map(|m| m.get("destination")?.as_str()?.strip_prefix(REQUEST_MOUNTS))
            .filter(|name| !name.is_empty() && !name.contains('/'))
            .map(str::to_owned)
            .collect()
    }
}

impl Request {
    /// What the container asks for, as far as policy lets it ask.
    pub fn read(container: ContainerView<'_>, policy: &Policy) -> Result<Self, Error> {
        let mounts = if policy.accept_mounts {
            container.mounts()
        } else {
            Vec::new()
        };
        let visible = if mounts.is_empty() {
            by_environment(container, policy)?
        } else {
            these(mounts)
        };
        let legacy = is_legacy_cuda_image(container);
        Ok(Self {
            visible,
            capabilities: capabilities(container, policy, legacy)?,
            requirements: requirements(container, policy),
            ..Self::default()
        })
    }

    /// Whether the container asks for anything at all.
    pub fn is_some(&self) -> bool {
        self.visible != Visible::NotAsked
    }
}

fn by_environment(container: ContainerView<'_>, policy: &Policy) -> Result<Visible, Error> {
    let value = match container.env("NVIDIA_VISIBLE_DEVICES") {
        Some(value) => value,
        // Images from before nvidia-docker 2: unset means all (nvidia-container-runtime 2.0).
        None if is_legacy_cuda_image(container) => "all",
        None => "",
    };
    let visible = match value.trim() {
        "" | "void" => Visible::NotAsked,
        "none" => Visible::NoGpu,
        list => these(list.split(',').map(|d| d.trim().to_owned()).collect()),
    };
    let asks = visible != Visible::NotAsked;
    if asks && !policy.accept_unprivileged && !container.is_privileged() {
        return Err(Error::Unprivileged(policy.path.clone()));
    }
    Ok(visible)
}

fn these(mut list: Vec<String>) -> Visible {
    list.retain(|d| !d.is_empty() && d != "void");
    if list.iter().any(|d| d == "all") {
        Visible::All
    } else if list.is_empty() {
        Visible::NotAsked
    } else if list.iter().all(|d| d == "none") {
        Visible::NoGpu
    } else {
        list.retain(|d| d != "none");
        Visible::These(list)
    }
}

fn is_legacy_cuda_image(container: ContainerView<'_>) -> bool {
    container.env("CUDA_VERSION").is_some() && container.env("NVIDIA_REQUIRE_CUDA").is_none()
}

fn capabilities(
    container: ContainerView<'_>,
    policy: &Policy,
    legacy: bool,
) -> Result<Capabilities, Error> {
    let wanted = match container.env("NVIDIA_DRIVER_CAPABILITIES").map(str::trim) {
        None if legacy => Capabilities::ALL,
        None | Some("") => Capabilities::of(&[Capability::Compute, Capability::Utility]),
        Some(list) => parse_capabilities(list)?,
    };
    Ok(wanted.and(policy.supported))
}

/// A comma list of words, or `all`.
pub(crate) fn parse_capabilities(list: &str) -> Result<Capabilities, Error> {
    let mut found = Capabilities::NONE;
    for word in list.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        if word == "all" {
            return Ok(Capabilities::ALL);
        }
        let one = Capability::from_word(word).ok_or_else(|| Error::Capability(word.to_owned()))?;
        found = found.with(one);
    }
    Ok(found)
}

fn requirements(container: ContainerView<'_>, policy: &Policy) -> Vec<String> {
    let off = |v: &str| matches!(v, "1" | "t" | "T" | "true" | "TRUE" | "True");
    if policy.disable_require || container.env("NVIDIA_DISABLE_REQUIRE").is_some_and(off) {
        return Vec::new();
    }
    container
        .variables()
        .filter(|(name, _)| name.starts_with("NVIDIA_REQUIRE_"))
        .map(|(_, value)| value.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(env: &[&str]) -> Result<Request, Error> {
        let config = json!({"process": {"env": env}});
        Request::read(ContainerView::new(&config), &Policy::default())
    }

    fn visible(value: &str) -> Visible {
        read(&[&format!("NVIDIA_VISIBLE_DEVICES={value}")])
            .unwrap()
            .visible
    }

    #[test]
    fn the_words_of_visible_devices() {
        assert_eq!(read(&[]).unwrap().visible, Visible::NotAsked);
        assert_eq!(visible(""), Visible::NotAsked);
        assert_eq!(visible("void"), Visible::NotAsked);
        assert_eq!(visible("none"), Visible::NoGpu);
        assert_eq!(visible("all"), Visible::All);
        assert_eq!(
            visible("0, 0:1,GPU-1"),
            these(["0", "0:1", "GPU-1"].map(str::to_owned).to_vec())
        );
        assert_eq!(read(&["CUDA_VERSION=8"]).unwrap().visible, Visible::All);
        let new = read(&["CUDA_VERSION=12", "NVIDIA_REQUIRE_CUDA=cuda>=12"]).unwrap();
        assert_eq!(new.visible, Visible::NotAsked);
    }

    #[test]
    fn capabilities_default_to_compute_and_utility() {
        let both = Capabilities::of(&[Capability::Compute, Capability::Utility]);
        assert_eq!(read(&[]).unwrap().capabilities, both);
        let all = read(&["NVIDIA_DRIVER_CAPABILITIES=all"]).unwrap();
        assert_eq!(all.capabilities, Capabilities::ALL);
        assert!(read(&["NVIDIA_DRIVER_CAPABILITIES=gpu"]).is_err());
    }

    #[test]
    fn policy_can_keep_the_unprivileged_out() {
        let policy = Policy {
            accept_unprivileged: false,
            ..Policy::default()
        };
        let mut config = json!({"process": {"env": ["NVIDIA_VISIBLE_DEVICES=0"]}});
        assert!(Request::read(ContainerView::new(&config), &policy).is_err());
        config["process"]["capabilities"] = json!({"bounding": ["CAP_SYS_ADMIN"]});
        assert!(Request::read(ContainerView::new(&config), &policy).is_ok());
    }

    #[test]
    fn mounts_ask_only_where_policy_reads_them() {
        let config = json!({"mounts": [
            {"source": "/dev/null", "destination": "/var/run/nvidia-container-devices/GPU-1"},
            {"source": "/etc", "destination": "/var/run/nvidia-container-devices/GPU-2"},
        ]});
        let view = ContainerView::new(&config);
        let mut policy = Policy::default();
        assert_eq!(
            Request::read(view, &policy).unwrap().visible,
            Visible::NotAsked
        );
        policy.accept_mounts = true;
        let found = Request::read(view, &policy).unwrap().visible;
        assert_eq!(found, Visible::These(vec!["GPU-1".into()]));
    }

    proptest! {
        #[test]
        fn no_value_panics(name in "NVIDIA_(VISIBLE_DEVICES|DRIVER_CAPABILITIES|REQUIRE_X)", value: String) {
            let _ = read(&[&format!("{name}={value}")]);
        }
    }
}
