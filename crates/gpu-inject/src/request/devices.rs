//! Reads which GPUs a container requests, and whether it may.

use std::collections::HashSet;

use cdi::QualifiedName;

use super::allowed::{Gate, RequestSource};
use super::legacy_image::is_legacy_cuda_image;
use super::mounts::MountRequests;
use super::visible::Visible;
use crate::error::{Error, Excerpt, Message};
use crate::oci::ContainerView;
use crate::policy::{Policy, RuntimeMode};

pub(super) const VARIABLE: &str = "NVIDIA_VISIBLE_DEVICES";

/// Reads the request from the first of these that has one: annotations, mounts, the environment
/// (the order of nvidia-container-toolkit `internal/config/image/cuda_image.go`).
pub(super) fn read(
    container: ContainerView<'_>,
    policy: &Policy,
    mode: RuntimeMode,
    mounted: &MountRequests,
    warnings: &mut Vec<Message>,
) -> Result<Visible, Error> {
    let gate = |source| Gate {
        policy,
        mode,
        is_privileged: container.is_privileged(),
        source,
    };
    let by_annotation = gate(RequestSource::Annotations);
    let annotated = by_annotations(container, &by_annotation, warnings);
    if !annotated.is_empty() {
        return visible(annotated, &by_annotation);
    }
    if !mounted.devices.is_empty() {
        return visible(mounted.devices.clone(), &gate(RequestSource::Mounts));
    }
    let variables = variables(container, policy);
    let names = by_environment(container, &variables);
    if is_empty_request(&names) {
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
    visible(names, &gate(RequestSource::Variables(variables)))
}

/// Whether the container may request GPUs by its environment.
///
/// If not, the request is ignored with a warning, as in nvidia-container-toolkit, and the
/// container starts without GPUs. Refusing to start it would be safe too. But the variable is
/// mostly set by the image, so in a cluster with `accept-… = false`, whose device plugin requests
/// GPUs by mounts, no pod from a CUDA image could start without a GPU.
pub(super) fn may_ask(container: ContainerView<'_>, policy: &Policy) -> bool {
    policy.accept_unprivileged || container.is_privileged()
}

/// The names in annotations with one of the policy's prefixes, in `cdi` mode. In `auto` mode only
/// if all of them are qualified, because then the mode is `cdi`.
///
/// The container need not be privileged, as kubelet and its plugins make such requests for any
/// container. But Podman also passes on the annotations of an image's manifest, so by default they
/// may name no more kinds than a variable. Where the annotation is one that engines read, too, other
/// vendors' kinds are left to the engine: as the default runtime we also see containers that have
/// nothing to do with us.
fn by_annotations(
    container: ContainerView<'_>,
    gate: &Gate<'_>,
    warnings: &mut Vec<Message>,
) -> Vec<String> {
    if !matches!(gate.mode, RuntimeMode::Cdi | RuntimeMode::Auto) {
        return Vec::new();
    }
    let prefixes = &gate.policy.annotation_prefixes;
    let mut annotations: Vec<_> = container
        .annotations()
        .filter(|(key, _)| prefixes.iter().any(|p| key.starts_with(p)))
        .collect();
    annotations.sort_unstable();
    let mut left = Vec::new();
    let mut names = Vec::new();
    for (key, value) in annotations {
        for name in words(value) {
            if key.starts_with(cdi::annotations::PREFIX) && gate.is_left_to_engine(&name) {
                left.push(name);
            } else {
                names.push(name);
            }
        }
    }
    if let Some(first) = left.first() {
        warnings.push(Message::of(format_args!(
            "an annotation asks for {}, which is another vendor's: it is left to the engine (gpu-container.allowed-cdi-kinds-in-annotations lists what this runtime gives)",
            Excerpt::of(first)
        )));
    }
    let is_qualified = |name: &String| name.parse::<QualifiedName>().is_ok();
    if gate.mode == RuntimeMode::Auto && !names.iter().all(is_qualified) {
        return Vec::new();
    }
    names
}

/// The variables with the request: [`VARIABLE`], or those of `swarm-resource` that are set.
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
    // For images older than nvidia-docker 2, unset means all (nvidia-container-runtime 2.0).
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

fn is_empty_request(names: &[String]) -> bool {
    names.is_empty() || names.iter().any(|n| n == "void")
}

/// The devices that a list of names stands for. `void` anywhere in it means no request; otherwise
/// the first `all` or `none` decides. In `cdi` mode `all` is an ordinary name of the default kind.
fn visible(names: Vec<String>, gate: &Gate<'_>) -> Result<Visible, Error> {
    if is_empty_request(&names) {
        return Ok(Visible::None);
    }
    match names.iter().find(|n| *n == "all" || *n == "none") {
        Some(word) if word == "all" && gate.mode == RuntimeMode::Cdi => {
            Ok(Visible::Listed(vec![gate.admit(word.clone())?]))
        }
        Some(word) if word == "all" => Ok(Visible::All),
        Some(_) => Ok(Visible::DriverOnly),
        None => {
            // An image may list any number, so duplicates are found by hash instead of comparing all.
            let mut known = HashSet::new();
            let distinct = names.into_iter().filter(|name| known.insert(name.clone()));
            let allowed: Result<_, _> = distinct.map(|name| gate.admit(name)).collect();
            Ok(Visible::Listed(allowed?))
        }
    }
}
