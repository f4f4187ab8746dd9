//! Which GPUs are asked for, and by whom.

use std::collections::HashSet;

use super::allowed::{Gate, Source};
use super::legacy_image::is_legacy_cuda_image;
use super::mounts::Mounted;
use super::visible::Visible;
use crate::error::{Error, Message};
use crate::oci::ContainerView;
use crate::policy::{Mode, Policy};

const VARIABLE: &str = "NVIDIA_VISIBLE_DEVICES";

/// Annotations before mounts before the environment: the first that asks for anything
/// (nvidia-container-toolkit `internal/config/image/cuda_image.go`).
pub(super) fn read(
    container: ContainerView<'_>,
    policy: &Policy,
    mode: Mode,
    mounted: &Mounted,
    warnings: &mut Vec<Message>,
) -> Result<Visible, Error> {
    let gate = |source| Gate {
        policy,
        mode,
        is_privileged: container.is_privileged(),
        source,
    };
    let annotated = by_annotations(container, policy, mode);
    if !annotated.is_empty() {
        return these(annotated, &gate(Source::Annotations));
    }
    if !mounted.devices.is_empty() {
        return these(mounted.devices.clone(), &gate(Source::Mounts));
    }
    let variables = variables(container, policy);
    let asked = by_environment(container, &variables);
    if asks_for_nothing(&asked) {
        return Ok(Visible::None);
    }
    let variables = variables.join(", ");
    if !may_ask(container, policy) {
        warnings.push(Message::of(format_args!(
            "an unprivileged container asks for GPUs by {variables}, which {} does not let it (accept-nvidia-visible-devices-envvar-when-unprivileged): it starts without",
            policy.path.display()
        )));
        return Ok(Visible::None);
    }
    these(asked, &gate(Source::Variables(variables)))
}

/// Whether the container's environment is believed.
///
/// Where it is not, what it asks for is passed over with a warning, as by
/// nvidia-container-toolkit, and the container starts without GPUs. Refusing to start it
/// would be safe too, but the variable is mostly the image's: with `accept-… = false`, as
/// clusters have it whose device plugin asks by mounts, no pod from a CUDA image could
/// start that was given no GPU.
pub(super) fn may_ask(container: ContainerView<'_>, policy: &Policy) -> bool {
    policy.accept_unprivileged || container.is_privileged()
}

/// In `cdi` mode, what annotations with one of the prefixes list; in `auto` mode only where
/// all of it is qualified names, since then the mode is `cdi`. Nobody's privilege is asked:
/// kubelet and its plugins ask so for containers that have none. Podman hands on those of an
/// image's manifest, too, so that they may name no more kinds than a variable.
fn by_annotations(container: ContainerView<'_>, policy: &Policy, mode: Mode) -> Vec<String> {
    if !matches!(mode, Mode::Cdi | Mode::Auto) {
        return Vec::new();
    }
    let is_asked = |key: &str| {
        policy
            .annotation_prefixes
            .iter()
            .any(|p| key.starts_with(p))
    };
    let mut found: Vec<_> = container
        .annotations()
        .filter(|(key, _)| is_asked(key))
        .collect();
    found.sort_unstable();
    let names: Vec<String> = found.iter().flat_map(|(_, value)| words(value)).collect();
    let is_qualified = |name: &String| name.parse::<cdi::QualifiedName>().is_ok();
    if mode == Mode::Auto && !names.iter().all(is_qualified) {
        return Vec::new();
    }
    names
}

/// The variables that say it: those of `swarm-resource` where one of them is set, in place
/// of [`VARIABLE`].
fn variables<'a>(container: ContainerView<'_>, policy: &'a Policy) -> Vec<&'a str> {
    let swarm: Vec<&str> = policy
        .swarm_resource
        .iter()
        .map(String::as_str)
        .filter(|name| container.env(name).is_some())
        .collect();
    if swarm.is_empty() {
        vec![VARIABLE]
    } else {
        swarm
    }
}

fn by_environment(container: ContainerView<'_>, variables: &[&str]) -> Vec<String> {
    let values: Vec<&str> = variables
        .iter()
        .filter_map(|name| container.env(name))
        .collect();
    // Images from before nvidia-docker 2: unset means all (nvidia-container-runtime 2.0).
    if values.is_empty() && is_legacy_cuda_image(container) {
        return vec!["all".into()];
    }
    values.into_iter().flat_map(words).collect()
}

fn words(list: &str) -> impl Iterator<Item = String> + '_ {
    list.split(',')
        .map(str::trim)
        .filter(|w| !w.is_empty())
        .map(str::to_owned)
}

fn asks_for_nothing(names: &[String]) -> bool {
    names.is_empty() || names.iter().any(|n| n == "void")
}

/// `void` anywhere is nothing at all; otherwise the first of `all` and `none` decides. In `cdi`
/// mode `all` is a name like any other, of the default kind.
fn these(names: Vec<String>, gate: &Gate<'_>) -> Result<Visible, Error> {
    if asks_for_nothing(&names) {
        return Ok(Visible::None);
    }
    match names.iter().find(|n| *n == "all" || *n == "none") {
        Some(word) if word == "all" && gate.mode == Mode::Cdi => {
            Ok(Visible::Listed(vec![gate.admit(word.clone())?]))
        }
        Some(word) if word == "all" => Ok(Visible::All),
        Some(_) => Ok(Visible::DriverOnly),
        None => {
            // As many as an image likes: each is looked up, not compared with all before it.
            let mut seen = HashSet::new();
            let once = names.into_iter().filter(|name| seen.insert(name.clone()));
            let allowed: Result<_, _> = once.map(|name| gate.admit(name)).collect();
            Ok(Visible::Listed(allowed?))
        }
    }
}
