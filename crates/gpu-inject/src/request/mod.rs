//! What a container asks for, read from its OCI config.

mod allowed;
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
pub use imex::Imex;
use legacy_image::is_legacy_cuda_image;
pub use visible::Visible;

use crate::error::{Error, Excerpt, Message};
use crate::oci::{ContainerView, Scan};
use crate::policy::{Mode, Policy, is_of_kind};

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
    /// `NVIDIA_REQUIRE_JETPACK=csv-mounts=all`: of a Tegra, what all of its lists have and not
    /// the base ones alone.
    pub all_lists: bool,
    /// What is asked for and passed over, a sentence each, for a log.
    pub warnings: Vec<Message>,
}

impl Request {
    /// What the container asks for, as far as policy lets it ask. Annotations do not count:
    /// this is the reading of a hook, which an engine starts beside its own CDI.
    pub fn read(container: ContainerView<'_>, policy: &Policy) -> Result<Self, Error> {
        Self::read_in(container, policy, Mode::Legacy)
    }

    /// The same as a runtime in that mode reads it: with annotations in `cdi` and `auto`.
    pub fn read_in(
        container: ContainerView<'_>,
        policy: &Policy,
        mode: Mode,
    ) -> Result<Self, Error> {
        let mut mounted = if policy.accept_mounts {
            mounts::read(container)
        } else {
            mounts::Mounted::default()
        };
        let mut warnings = std::mem::take(&mut mounted.warnings);
        let visible = devices::read(container, policy, mode, &mounted, &mut warnings)?;
        if visible == Visible::None {
            // Everything else goes with GPUs; an error in it is nobody's business here.
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

    /// Whether the container asks for anything at all.
    pub fn is_some(&self) -> bool {
        self.visible != Visible::None
    }
}

/// Of a config.json that is too long to be held, what tells whether GPUs are asked for and where the
/// root file system is: annotations with one of these prefixes, no more mounts than those that ask
/// for devices.
pub fn scan_long(text: impl Read, prefixes: &[String]) -> Result<Scan<'static>, Message> {
    let is_asked = |key: &str| prefixes.iter().any(|p| key.starts_with(p));
    Scan::of_long(text, &is_asked, &mounts::may_ask)
}

/// Every `NVIDIA_REQUIRE_*`, but for `JetPack`'s, which is no condition; for a legacy image
/// the CUDA version it is made for.
fn requirements(
    container: ContainerView<'_>,
    policy: &Policy,
    legacy: bool,
    warnings: &mut Vec<Message>,
) -> Vec<String> {
    // The words of Go's strconv.ParseBool, which the variable has always been read by.
    let off = |v: &str| matches!(v, "1" | "t" | "T" | "true" | "TRUE" | "True");
    if policy.disable_require || container.env("NVIDIA_DISABLE_REQUIRE").is_some_and(off) {
        return Vec::new();
    }
    // Of one that is set twice the last counts.
    let said: BTreeMap<&str, &str> = container
        .variables()
        .filter(|(name, _)| name.starts_with("NVIDIA_REQUIRE_"))
        .filter(|(name, _)| !name.starts_with("NVIDIA_REQUIRE_JETPACK"))
        .collect();
    let mut found: Vec<String> = said.into_values().map(str::to_owned).collect();
    if let Some(version) = container.env("CUDA_VERSION").filter(|_| legacy) {
        match major_minor(version) {
            Some((major, minor)) => found.push(format!("cuda>={major}.{minor}")),
            None => warnings.push(Message::of(format_args!(
                "CUDA_VERSION {:?} is no version; nothing is required by it",
                Excerpt::of(version)
            ))),
        }
    }
    found
}

fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim().trim_start_matches('v').split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next().map_or(Some(0), |m| m.parse().ok())?;
    Some((major, minor))
}

/// They are devices of the host besides the GPUs, and an image can set the variables: where the
/// environment may not ask for GPUs it may not ask for these, unless the policy lists their kind.
/// It can, for clusters whose device plugin gives GPUs by mounts and says these by variables.
fn features(
    container: ContainerView<'_>,
    policy: &Policy,
    warnings: &mut Vec<Message>,
) -> Vec<Feature> {
    let mut found = Vec::new();
    for feature in Feature::ALL {
        let name = format!("NVIDIA_{}", feature.word().to_ascii_uppercase());
        if container.env(&name) != Some("enabled") {
            continue;
        }
        let kind = format!("nvidia.com/{}", feature.word());
        let is_listed = policy.allowed_kinds.iter().any(|k| is_of_kind(&kind, k));
        if is_listed || devices::may_ask(container, policy) {
            found.push(feature);
        } else {
            warnings.push(Message::of(format_args!(
                "an unprivileged container asks for {kind} by {name}, which {} does not let it: it gets none; gpu-container.allowed-cdi-kinds can list it",
                policy.path.display()
            )));
        }
    }
    found
}

fn channels(
    container: ContainerView<'_>,
    policy: &Policy,
    mounted: &mounts::Mounted,
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

/// Partitioning GPUs, or watching others on them, is for containers that may do anything
/// anyway; another's wish is passed over with a warning, like one for GPUs.
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
        // The words that ask for no device elsewhere.
        "none" | "void" => Ok(false),
        _ => Err(Error::MigControl {
            name,
            why: Message::of(format_args!(
                "{:?} cannot be asked for, only all",
                Excerpt::of(value)
            )),
        }),
    }
}

#[cfg(test)]
mod tests;
