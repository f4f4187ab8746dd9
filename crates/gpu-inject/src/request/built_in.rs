//! Tells whether a container asks for GPUs where that cannot be read as usual: while the policy is not known, or in a
//! config.json that only the low-level runtime may understand. Both answers may be "yes" for a container that asks for
//! nothing, but "no" only for one that uses none of the ways there are.

use std::io::{self, Read};

use super::{Request, devices, mounts};
use crate::oci::ContainerView;
use crate::policy::{Policy, RuntimeMode};

/// Variables that ask for GPUs by themselves; the second is the one of images from before 2018.
const VARIABLES: [&str; 2] = [devices::VARIABLE, "CUDA_VERSION"];
/// How much of a text is searched. Longer texts do not start a container.
const MAX_SEARCHED: u64 = 256 << 20;
/// Bytes read at a time.
const PIECE: usize = 64 << 10;

/// Whether the container asks for GPUs in any way that a policy could accept. `known` is what can be read of the policy
/// ([`Policy::salvaged`]): its variables and prefixes count in addition to the built-in ones.
pub fn asks_in_any_way(container: ContainerView<'_>, known: &Policy) -> bool {
    let built_in = Policy {
        accept_unprivileged: true,
        accept_mounts: true,
        annotation_prefixes: known.annotation_prefixes.clone(),
        ..Policy::default()
    };
    let with_swarm = Policy {
        swarm_resource: known.swarm_resource.clone(),
        ..built_in.clone()
    };
    let modes = [RuntimeMode::Cdi, RuntimeMode::Legacy];
    [built_in, with_swarm].iter().any(|policy| {
        modes.iter().any(|mode| {
            let request = Request::read_in(container, policy, *mode);
            request.map_or(true, |request| request.is_some())
        })
    })
}

/// Whether a config.json, which may be of any form, has a name in it by which containers ask for GPUs. Reads no more than
/// 256 MiB.
pub fn names_a_way(config: impl Read, known: &Policy) -> io::Result<bool> {
    let built_in = VARIABLES.into_iter().chain([mounts::DIRECTORY]);
    let configured = known
        .swarm_resource
        .iter()
        .chain(&known.annotation_prefixes);
    let names: Vec<&[u8]> = built_in
        .chain(configured.map(String::as_str))
        .map(str::as_bytes)
        .collect();
    let longest = names.iter().map(|name| name.len()).max().unwrap_or(0);
    let mut config = config.take(MAX_SEARCHED);
    let mut text = Vec::new();
    loop {
        // The end of the part before stays, because a name may be on the border.
        text.drain(..text.len().saturating_sub(longest));
        let read = config.by_ref().take(PIECE as u64).read_to_end(&mut text)?;
        if names
            .iter()
            .any(|name| memchr::memmem::find(&text, name).is_some())
        {
            return Ok(true);
        }
        if read == 0 {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn known() -> Policy {
        Policy {
            swarm_resource: vec!["DOCKER_RESOURCE_GPU".into()],
            annotation_prefixes: vec!["site/".into(), cdi::annotations::PREFIX.into()],
            ..Policy::default()
        }
    }

    fn of_env(env: &[&str]) -> Value {
        json!({"process": {"env": env}})
    }

    fn of_mount(destination: &str) -> Value {
        json!({"mounts": [{"source": "/dev/null", "destination": destination}]})
    }

    /// Containers that ask in one of the ways that the documentation lists.
    fn asking() -> Vec<Value> {
        vec![
            of_env(&["NVIDIA_VISIBLE_DEVICES=all"]),
            of_env(&["NVIDIA_VISIBLE_DEVICES=none"]),
            of_env(&["NVIDIA_VISIBLE_DEVICES=vendor.com/gpu=0"]),
            of_env(&["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=odd"]),
            of_env(&["CUDA_VERSION=9.0"]),
            of_env(&["DOCKER_RESOURCE_GPU=GPU-0", "NVIDIA_VISIBLE_DEVICES=void"]),
            of_env(&["DOCKER_RESOURCE_GPU=void", "NVIDIA_VISIBLE_DEVICES=0"]),
            json!({"annotations": {"cdi.k8s.io/plugin": "nvidia.com/gpu=0"}}),
            json!({"annotations": {"cdi.k8s.io/plugin": "0"}}),
            json!({"annotations": {"site/x": "vendor.com/gpu=0"}}),
            json!({"annotations": {"cdi.k8s.io/x": "void"},
                "process": {"env": ["NVIDIA_VISIBLE_DEVICES=0"]}}),
            of_mount("/var/run/nvidia-container-devices/GPU-0"),
            of_mount("/var/run/nvidia-container-devices/cdi/nvidia.com/gpu/0"),
        ]
    }

    #[test]
    fn every_way_to_ask_is_noticed_without_a_policy() {
        for config in asking() {
            let asks = asks_in_any_way(ContainerView::new(&config), &known());
            assert!(asks, "{config}");
        }
        for config in [
            json!({}),
            of_env(&["PATH=/bin", "NVIDIA_VISIBLE_DEVICES=void"]),
            of_env(&["NVIDIA_VISIBLE_DEVICES="]),
            of_env(&["NVIDIA_DRIVER_CAPABILITIES=all", "NVIDIA_GDS=enabled"]),
            of_env(&["CUDA_VERSION=12.4", "NVIDIA_REQUIRE_CUDA=cuda>=12.4"]),
            json!({"annotations": {"other/x": "nvidia.com/gpu=0"}}),
            json!({"annotations": {"cdi.k8s.io/x": "vendor.com/fpga=0"}}),
            of_mount("/var/run/nvidia"),
        ] {
            let asks = asks_in_any_way(ContainerView::new(&config), &known());
            assert!(!asks, "{config}");
        }
    }

    #[test]
    fn every_name_is_found_in_a_text_of_any_form_and_length() {
        let has = |text: &[u8]| names_a_way(text, &known()).unwrap();
        for config in asking() {
            let text = config.to_string().into_bytes();
            assert!(has(&text), "{config}");
            for before in [PIECE - 40, PIECE - 30, PIECE - 20, 3 * PIECE - 10] {
                assert!(
                    has(&[vec![0xff; before], text.clone()].concat()),
                    "{config}"
                );
            }
        }
        assert!(!has(b"") && !has(b"{") && !has(&vec![b'x'; 3 * PIECE]));
    }
}
