//! Builds the configuration of our pod: a sandbox in the host's network, so that no CNI plugin is needed, with one
//! container.

use std::path::Path;

use crate::cli::Arguments;
use crate::engine::{LABEL, spec};
use crate::messages::{
    CdiDevice, ContainerConfig, ContainerLinux, ContainerMetadata, ContainerSecurity, CriMount,
    KeyValue, Metadata, MoreCapabilities, NODE, Namespaces, SandboxConfig, SandboxLinux,
    SandboxSecurity,
};

/// The container's log, in the sandbox's log directory.
pub(crate) const LOG: &str = "container.log";

fn namespaces(privileged: bool) -> Namespaces {
    Namespaces {
        network: NODE,
        pid: if privileged { NODE } else { 0 },
    }
}

/// The sandbox for a command line.
pub(crate) fn sandbox(cli: &Arguments, logs: &Path) -> SandboxConfig {
    let name = format!("cri-client-{}", std::process::id());
    let label = cli
        .remove_on_next
        .then(|| (LABEL.0.to_owned(), LABEL.1.to_owned()));
    SandboxConfig {
        metadata: Some(Metadata {
            uid: name.clone(),
            name,
            namespace: "default".into(),
            attempt: 0,
        }),
        log_directory: logs.display().to_string(),
        labels: label.into_iter().collect(),
        linux: Some(SandboxLinux {
            cgroup_parent: cli.cgroup_parent.clone(),
            security: Some(SandboxSecurity {
                namespaces: Some(namespaces(cli.privileged)),
                privileged: cli.privileged,
            }),
        }),
    }
}

/// The rights of the container; `None` for the usual ones.
fn linux(cli: &Arguments) -> Option<ContainerLinux> {
    if !cli.privileged && cli.capabilities.is_empty() {
        return None;
    }
    // CRI's names have no prefix (api.proto, Capability).
    let add = cli.capabilities.iter();
    let add = add.map(|name| name.strip_prefix("CAP_").unwrap_or(name).to_owned());
    Some(ContainerLinux {
        security: Some(ContainerSecurity {
            capabilities: Some(MoreCapabilities { add: add.collect() }),
            privileged: cli.privileged,
            namespaces: Some(namespaces(cli.privileged)),
        }),
    })
}

/// The container for a command line.
pub(crate) fn container(cli: &Arguments, image: &str) -> ContainerConfig {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), value.to_owned())
    };
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: "container".into(),
        }),
        image: Some(spec(image)),
        command: cli.command.clone(),
        envs: cli
            .envs
            .iter()
            .map(pair)
            .map(|(key, value)| KeyValue { key, value })
            .collect(),
        mounts: cli
            .mounts
            .iter()
            .filter_map(|m| m.split_once(':'))
            .map(|(node, container)| CriMount {
                host_path: node.into(),
                container_path: container.into(),
            })
            .collect(),
        annotations: cli.annotations.iter().map(pair).collect(),
        log_path: LOG.into(),
        linux: linux(cli),
        cdi_devices: cli
            .cdi_devices
            .iter()
            .map(|name| CdiDevice { name: name.clone() })
            .collect(),
    }
}
