//! Decides which CDI devices a container may request itself. This is a security boundary: a CDI
//! spec can mount any file of the host, and a request in config.json may come from the image.

use cdi::QualifiedName;

use crate::error::{Error, Excerpt, KindRule};
use crate::policy::{Policy, RuntimeMode, is_of_kind};

/// Kinds that every container may request: GPUs and related devices in the specs of NVIDIA's
/// tools and ours. A runtime that reads another vendor's variable would need a list of its own.
pub(super) const KINDS: [&str; 4] = [
    "nvidia.com/*",
    "runtime.nvidia.com/gpu",
    // From NVIDIA/k8s-device-plugin internal/cdi/cdi.go.
    "k8s.device-plugin.nvidia.com/gpu",
    // From kubernetes-sigs/dra-driver-nvidia-gpu: devices, and claims of several devices.
    "k8s.gpu.nvidia.com/*",
];

/// NVIDIA as a vendor of CDI devices; its tools use names below it, too.
const NVIDIA: &str = "nvidia.com";

/// The kind whose devices have every node of the driver, including those for partitioning GPUs.
const MANAGEMENT: &str = "management.nvidia.com/*";

/// A device name that the requester is allowed to use. Looking up a CDI device or a GPU takes this
/// type, and only `Gate::admit` makes one from a name in config.json.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AllowedName {
    text: String,
    cdi: Option<QualifiedName>,
}

impl AllowedName {
    /// A name given by the caller of a program or of the library, who could open the device
    /// directly. Must not be used for a name that was read from a container.
    pub fn by_caller(text: impl Into<String>) -> Self {
        let text = text.into();
        let cdi = text.parse().ok();
        Self { text, cdi }
    }

    /// The name as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The CDI device that it names; `None` for an index, a UUID and other names.
    pub fn cdi(&self) -> Option<&QualifiedName> {
        self.cdi.as_ref()
    }
}

/// Where in config.json a name comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RequestSource {
    /// These environment variables. `-e` and the image's `ENV` cannot be distinguished.
    Variables(String),
    /// Mounts below /var/run/nvidia-container-devices.
    Mounts,
    /// Annotations. Podman also copies those of the image's manifest.
    Annotations,
}

impl RequestSource {
    /// For the error: who may have made the request.
    fn who(&self) -> &'static str {
        match self {
            Self::Variables(_) => "An image can set it",
            Self::Mounts => "Whoever describes the container can add it",
            Self::Annotations => "An image can bring it along",
        }
    }

    /// For the error: what the request was made by.
    fn description(&self) -> String {
        match self {
            Self::Variables(names) => names.clone(),
            Self::Mounts => "A mount below /var/run/nvidia-container-devices".into(),
            Self::Annotations => "An annotation".into(),
        }
    }

    /// The policy's key that can allow more kinds.
    fn key(&self) -> &'static str {
        match self {
            Self::Annotations => "gpu-container.allowed-cdi-kinds-in-annotations",
            Self::Variables(_) | Self::Mounts => "gpu-container.allowed-cdi-kinds",
        }
    }
}

/// Checks the names that a container requests.
pub(super) struct Gate<'a> {
    pub(super) policy: &'a Policy,
    pub(super) mode: RuntimeMode,
    pub(super) is_privileged: bool,
    pub(super) source: RequestSource,
}

impl Gate<'_> {
    /// Admits a name from config.json if its kind is allowed. In `cdi` mode an unqualified name has the default kind.
    pub(super) fn admit(&self, text: String) -> Result<AllowedName, Error> {
        let cdi = match text.parse::<QualifiedName>() {
            Ok(name) => Some(name),
            Err(_) if self.mode == RuntimeMode::Cdi => {
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
            by: self.source.description(),
            who: self.source.who(),
            allowed: &KINDS,
            rule: self.rule(name),
        })
    }

    /// Whether a name of a CDI annotation is no request to us: it is of another vendor's kind, which the policy does
    /// not list. An engine that resolves CDI annotations has then given that device itself, and one that does not
    /// would start the container without it under runc, too. NVIDIA's kinds are requests to us, whatever their case.
    pub(super) fn is_left_to_engine(&self, text: &str) -> bool {
        let Ok(name) = text.parse::<QualifiedName>() else {
            return false;
        };
        let vendor = name.kind.split('/').next().unwrap_or_default();
        let vendor = vendor.to_ascii_lowercase();
        let is_nvidias = vendor == NVIDIA || vendor.ends_with(&format!(".{NVIDIA}"));
        !is_nvidias && !self.is_listed(&name.kind)
    }

    fn is_listed(&self, kind: &str) -> bool {
        let matches = |pattern: &String| is_of_kind(kind, pattern);
        kind == self.policy.default_kind
            || self.policy.allowed_kinds.iter().any(matches)
            || self.listed_for_source().iter().any(matches)
    }

    /// The kinds that the policy's key for this source lists.
    fn listed_for_source(&self) -> &[String] {
        match self.source {
            RequestSource::Annotations => &self.policy.allowed_kinds_in_annotations,
            RequestSource::Variables(_) | RequestSource::Mounts => &self.policy.allowed_kinds,
        }
    }

    fn rule(&self, name: &QualifiedName) -> KindRule {
        let key = self.source.key();
        if is_of_kind(&name.kind, MANAGEMENT) && !self.is_privileged {
            return KindRule::Privileged { key };
        }
        let kind = Excerpt::of(&name.kind).to_string();
        let listed = self.listed_for_source().iter().map(String::as_str);
        let kinds: Vec<&str> = listed.chain([&*kind]).collect();
        KindRule::Listed {
            key,
            kinds: kinds.join(",").into(),
        }
    }
}

#[cfg(test)]
mod tests;
