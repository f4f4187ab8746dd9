//! Which CDI devices a container may name itself. A CDI spec can mount anything of the host's,
//! and what a container says of itself can be the image's word.

use cdi::QualifiedName;

use crate::error::{Error, Excerpt};
use crate::policy::{Mode, Policy, is_of_kind};

/// Kinds that every container may name: GPUs, and what goes with them, by the specs of NVIDIA's
/// tools and ours. Vendors are compared whole. A variable of another vendor, for a runtime of
/// its own, needs a list of its own.
pub(super) const KINDS: [&str; 4] = [
    "nvidia.com/*",
    "runtime.nvidia.com/gpu",
    // NVIDIA/k8s-device-plugin internal/cdi/cdi.go.
    "k8s.device-plugin.nvidia.com/gpu",
    // kubernetes-sigs/dra-driver-nvidia-gpu: devices, and claims of several.
    "k8s.gpu.nvidia.com/*",
];

/// Every node of the driver, those that partition GPUs included.
const MANAGEMENT: &str = "management.nvidia.com/*";

/// A device's name that whoever said it may ask by. Nothing else leads to a CDI spec or to a
/// GPU: a container's own words become one in `Gate::admit` alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AllowedName {
    text: String,
    cdi: Option<QualifiedName>,
}

impl AllowedName {
    /// What the caller of a program or of the library asks for, who could open the device
    /// himself. Never for anything read from a container.
    pub fn by_caller(text: impl Into<String>) -> Self {
        let text = text.into();
        let cdi = text.parse().ok();
        Self { text, cdi }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The CDI device that it means; none for an index, a UUID and their like.
    pub fn cdi(&self) -> Option<&QualifiedName> {
        self.cdi.as_ref()
    }
}

/// Where in config.json a name comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// These variables. `-e` and the image's `ENV` cannot be told apart.
    Variables(String),
    /// Mounts below the agreed directory.
    Mounts,
    /// Annotations. Podman copies those of the image's manifest.
    Annotations,
}

impl Source {
    fn who(&self) -> &'static str {
        match self {
            Self::Variables(_) => "An image can set it",
            Self::Mounts => "Whoever describes the container can add it",
            Self::Annotations => "An image can bring it along",
        }
    }

    fn told(&self) -> String {
        match self {
            Self::Variables(names) => names.clone(),
            Self::Mounts => "A mount below /var/run/nvidia-container-devices".into(),
            Self::Annotations => "An annotation".into(),
        }
    }

    fn key(&self) -> &'static str {
        match self {
            Self::Annotations => "gpu-container.allowed-cdi-kinds-in-annotations",
            Self::Variables(_) | Self::Mounts => "gpu-container.allowed-cdi-kinds",
        }
    }
}

/// What lets a name through, or does not.
pub(super) struct Gate<'a> {
    pub(super) policy: &'a Policy,
    pub(super) mode: Mode,
    pub(super) is_privileged: bool,
    pub(super) source: Source,
}

impl Gate<'_> {
    /// A name from config.json. In `cdi` mode one that is not qualified is of the default kind.
    pub(super) fn admit(&self, text: String) -> Result<AllowedName, Error> {
        let cdi = match text.parse::<QualifiedName>() {
            Ok(name) => Some(name),
            Err(_) if self.mode == Mode::Cdi => {
                Some(format!("{}={text}", self.policy.default_kind).parse()?)
            }
            Err(_) => None,
        };
        if let Some(name) = &cdi {
            self.ensure_kind_allowed(name)?;
        }
        Ok(AllowedName { text, cdi })
    }

    fn ensure_kind_allowed(&self, name: &QualifiedName) -> Result<(), Error> {
        let is_listed = self.is_listed(&name.kind);
        let is_allowed = if is_of_kind(&name.kind, MANAGEMENT) {
            is_listed && self.is_privileged
        } else {
            is_listed || KINDS.iter().any(|kind| is_of_kind(&name.kind, kind))
        };
        if is_allowed {
            return Ok(());
        }
        Err(Error::KindNotAllowed {
            asked: Excerpt::of(name.to_string()),
            by: self.source.told(),
            who: self.source.who(),
            allowed: KINDS.join(", "),
            way_out: self.way_out(name),
        })
    }

    fn is_listed(&self, kind: &str) -> bool {
        let is_it = |pattern: &String| is_of_kind(kind, pattern);
        kind == self.policy.default_kind
            || self.policy.allowed_kinds.iter().any(is_it)
            || self.listed_for_source().iter().any(is_it)
    }

    /// What the policy's key for this source lists.
    fn listed_for_source(&self) -> &[String] {
        match self.source {
            Source::Annotations => &self.policy.allowed_kinds_in_annotations,
            Source::Variables(_) | Source::Mounts => &self.policy.allowed_kinds,
        }
    }

    fn way_out(&self, name: &QualifiedName) -> String {
        let key = self.source.key();
        if is_of_kind(&name.kind, MANAGEMENT) && !self.is_privileged {
            return format!(
                "It has every node of the driver, and is for privileged containers (CAP_SYS_ADMIN) where {key} lists it"
            );
        }
        let kind = Excerpt::of(&name.kind).to_string();
        let listed = self.listed_for_source().iter().map(String::as_str);
        let kinds: Vec<&str> = listed.chain([&*kind]).collect();
        format!(
            "Ask the engine itself for it (docker or podman run --device), or let containers ask: gpusetup config set {key}={}",
            kinds.join(",")
        )
    }
}

#[cfg(test)]
mod tests;
