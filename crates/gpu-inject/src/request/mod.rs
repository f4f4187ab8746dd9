//! Reads a container's request for GPUs from its OCI config.

mod allowed;
mod built_in;
mod capabilities;
mod devices;
mod imex;
mod legacy_image;
mod mounts;
mod visible;

use std::collections::BTreeMap;
use std::io::Read;

use gpu_host::{Capabilities, Feature};

pub use allowed::AllowedName;
pub use built_in::{asks_in_any_way, names_a_way};
pub use imex::Imex;
use legacy_image::is_legacy_cuda_image;
pub use visible::Visible;

use crate::error::{Error, Excerpt, Message, MigControlFault};
use crate::oci::{ContainerView, Scan};
use crate::policy::{Policy, RuntimeMode, is_of_kind};

/// A container's request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The GPUs and slices.
    pub visible: Visible,
    /// The parts of the driver.
    pub capabilities: Capabilities,
    /// `NVIDIA_REQUIRE_*`, all of which the host must meet.
    pub requirements: Vec<String>,
    /// `NVIDIA_GDS`, `NVIDIA_MOFED`, `NVIDIA_GDRCOPY`, `NVIDIA_NVSWITCH` = `enabled`.
    pub features: Vec<Feature>,
    /// `NVIDIA_IMEX_CHANNELS`.
    pub imex: Imex,
    /// `NVIDIA_MIG_CONFIG_DEVICES=all`: partition the GPUs.
    pub mig_config: bool,
    /// `NVIDIA_MIG_MONITOR_DEVICES=all`: monitor all slices.
    pub mig_monitor: bool,
    /// `NVIDIA_REQUIRE_JETPACK=csv-mounts=all`: on a Tegra, the files of all lists instead of only
    /// the base ones.
    pub all_lists: bool,
    /// Parts of the request that were ignored, a sentence for each, for the log.
    pub warnings: Vec<Message>,
}

impl Request {
    /// Reads the request as a hook does, as far as the policy allows it. Annotations are ignored,
    /// because the engine that starts the hook handles CDI itself.
    pub fn read(container: ContainerView<'_>, policy: &Policy) -> Result<Self, Error> {
        Self::read_in(container, policy, RuntimeMode::Legacy)
    }

    /// Reads the request as a runtime in this mode does: with annotations in `cdi` and `auto`.
    pub fn read_in(
        container: ContainerView<'_>,
        policy: &Policy,
        mode: RuntimeMode,
    ) -> Result<Self, Error> {
        let mut mounted = if policy.accept_mounts {
            mounts::read(container)
        } else {
            mounts::MountRequests::default()
        };
        let mut warnings = std::mem::take(&mut mounted.warnings);
        let visible = devices::read(container, policy, mode, &mounted, &mut warnings)?;
        if visible == Visible::None {
            // The rest of the request only matters together with GPUs, so an error in it does not count.
            return Ok(Self {
                warnings,
                ..Self::default()
            });
        }
        let legacy = is_legacy_cuda_image(container);
        let (capabilities, denied) = capabilities::read(container, policy, legacy)?;
        warnings.extend(denied);
        Ok(Self {
            visible,
            capabilities,
            requirements: requirements(container, policy, legacy, &mut warnings),
            features: features(container, policy, &mut warnings),
            imex: channels(container, policy, &mounted, &mut warnings)?,
            mig_config: mig(container, "NVIDIA_MIG_CONFIG_DEVICES", &mut warnings)?,
            mig_monitor: mig(container, "NVIDIA_MIG_MONITOR_DEVICES", &mut warnings)?,
            all_lists: container.env("NVIDIA_REQUIRE_JETPACK") == Some("csv-mounts=all"),
            warnings,
        })
    }

    /// Whether the container requests anything.
    pub fn is_some(&self) -> bool {
        self.visible != Visible::None
    }
}

/// Scans a config.json that is too long to hold in memory for the request for GPUs and the root file system. Keeps
/// only annotations with one of these prefixes and mounts that may request devices.
pub fn scan_long(text: impl Read, prefixes: &[String]) -> Result<Scan<'static>, Message> {
    let has_prefix = |key: &str| prefixes.iter().any(|p| key.starts_with(p));
    Scan::of_long(text, &has_prefix, &mounts::may_be_request)
}

/// The values of all `NVIDIA_REQUIRE_*` except `JetPack`'s, which is not a condition. For a legacy
/// image also the CUDA version that it is made for.
fn requirements(
    container: ContainerView<'_>,
    policy: &Policy,
    legacy: bool,
    warnings: &mut Vec<Message>,
) -> Vec<String> {
    // The true values of Go's strconv.ParseBool, by which nvidia-container-toolkit reads the variable.
    let is_true = |v: &str| matches!(v, "1" | "t" | "T" | "true" | "TRUE" | "True");
    if policy.disable_require || container.env("NVIDIA_DISABLE_REQUIRE").is_some_and(is_true) {
        return Vec::new();
    }
    // If a variable is set twice, the last value counts.
    let variables: BTreeMap<&str, &str> = container
        .variables()
        .filter(|(name, _)| name.starts_with("NVIDIA_REQUIRE_"))
        .filter(|(name, _)| !name.starts_with("NVIDIA_REQUIRE_JETPACK"))
        .collect();
    let mut requirements: Vec<String> = variables.into_values().map(str::to_owned).collect();
    if let Some(version) = container.env("CUDA_VERSION").filter(|_| legacy) {
        match major_minor(version) {
            Some((major, minor)) => requirements.push(format!("cuda>={major}.{minor}")),
            None => warnings.push(Message::of(format_args!(
                "CUDA_VERSION {:?} is no version; nothing is required by it",
                Excerpt::of(version)
            ))),
        }
    }
    requirements
}

fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim().trim_start_matches('v').split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next().map_or(Some(0), |m| m.parse().ok())?;
    Some((major, minor))
}

/// The features that the container requests and may have.
///
/// They give access to more devices of the host, and an image can set the variables. So if the
/// environment may not request GPUs it may not request features either, unless the policy lists
/// their kind. It does so in clusters whose device plugin requests GPUs by mounts and features by
/// variables.
fn features(
    container: ContainerView<'_>,
    policy: &Policy,
    warnings: &mut Vec<Message>,
) -> Vec<Feature> {
    let mut granted = Vec::new();
    for feature in Feature::ALL {
        let name = format!("NVIDIA_{}", feature.word().to_ascii_uppercase());
        if container.env(&name) != Some("enabled") {
            continue;
        }
        let kind = format!("nvidia.com/{}", feature.word());
        let is_listed = policy.allowed_kinds.iter().any(|k| is_of_kind(&kind, k));
        if is_listed || devices::may_ask(container, policy) {
            granted.push(feature);
        } else {
            warnings.push(Message::of(format_args!(
                "an unprivileged container asks for {kind} by {name}, which {} does not let it: it gets none; gpu-container.allowed-cdi-kinds can list it",
                policy.path.display()
            )));
        }
    }
    granted
}

fn channels(
    container: ContainerView<'_>,
    policy: &Policy,
    mounted: &mounts::MountRequests,
    warnings: &mut Vec<Message>,
) -> Result<Imex, Error> {
    if policy.ignore_imex {
        return Ok(Imex::None);
    }
    if !mounted.channels.is_empty() {
        return imex::read(mounted.channels.iter().map(String::as_str));
    }
    let Some(value) = container.env("NVIDIA_IMEX_CHANNELS") else {
        return Ok(Imex::None);
    };
    if !devices::may_ask(container, policy) {
        warnings.push(
            "an unprivileged container asks for IMEX channels by NVIDIA_IMEX_CHANNELS; it gets none"
                .into(),
        );
        return Ok(Imex::None);
    }
    imex::read(value.split(','))
}

/// Whether the container requests MIG control with this variable and may have it. It must be
/// privileged, since partitioning or monitoring affects other containers; otherwise the request is
/// ignored with a warning.
fn mig(
    container: ContainerView<'_>,
    name: &'static str,
    warnings: &mut Vec<Message>,
) -> Result<bool, Error> {
    let Some(value) = container.env(name).map(str::trim).filter(|v| !v.is_empty()) else {
        return Ok(false);
    };
    if !container.is_privileged() {
        warnings.push(Message::of(format_args!(
            "{name} is for privileged containers (CAP_SYS_ADMIN); this one is not, so it is passed over"
        )));
        return Ok(false);
    }
    match value {
        "all" => Ok(true),
        // As in NVIDIA_VISIBLE_DEVICES, these words request nothing.
        "none" | "void" => Ok(false),
        _ => Err(Error::MigControl {
            name,
            fault: MigControlFault::NotAll(Excerpt::of(value)),
        }),
    }
}

#[cfg(test)]
mod tests;
