//! Edits carried out in an OCI config, and written down as CDI edits.

use std::path::Path;

use cdi::{ContainerEdits, DeviceNode, Hook, Mount as CdiMount};
use serde_json::Value;

use crate::edits::{Edits, Mount, MountKind};
use crate::error::Error;

/// Set for our hook, so that the binary knows it is one whatever it is called.
pub const HOOK_ENV: &str = "GPU_CONTAINER_HOOK=1";

/// How a CDI form of edits is meant to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// With device numbers: no look at the host is needed.
    Numbered,
    /// By path: whoever applies it looks at the host then.
    ByPath,
}

/// Carries `edits` out in `config`; `hook` is our hook's program on the host.
pub fn apply(config: &mut Value, edits: &Edits, hook: &Path) -> Result<(), Error> {
    let edits = to_cdi(edits, hook, Nodes::Numbered);
    let mut edited = config.clone();
    cdi::apply(&mut edited, &edits, &|_| {
        Err(std::io::ErrorKind::NotFound.into())
    })?;
    *config = edited;
    Ok(())
}

/// The same edits as CDI says them.
pub fn to_cdi(edits: &Edits, hook: &Path, nodes: Nodes) -> ContainerEdits {
    ContainerEdits {
        env: edits.env.iter().map(|(k, v)| format!("{k}={v}")).collect(),
        device_nodes: edits.devices.iter().map(|d| node(d, nodes)).collect(),
        hooks: hooks(edits, hook),
        mounts: edits.mounts.iter().map(mount).collect(),
        intel_rdt: None,
        additional_gids: edits.additional_gids.clone(),
    }
}

fn node(node: &gpu_host::DeviceNode, form: Nodes) -> DeviceNode {
    let mut made = DeviceNode {
        path: node.path.clone(),
        host_path: (node.host_path != node.path).then(|| node.host_path.clone()),
        // No mknod: a container has no use for it, and it is one more thing it cannot do.
        permissions: Some("rw".into()),
        ..DeviceNode::default()
    };
    if form == Nodes::Numbered {
        made.kind = Some("c".into());
        made.major = Some(node.major.into());
        made.minor = Some(node.minor.into());
        made.file_mode = Some(node.mode);
        made.uid = Some(node.uid);
        made.gid = Some(node.gid);
    }
    made
}

fn mount(mount: &Mount) -> CdiMount {
    let flags: &[&str] = match mount.kind {
        MountKind::File => &["ro", "nosuid", "nodev", "rbind", "rprivate"],
        MountKind::Socket => &["nosuid", "nodev", "noexec", "rbind", "rprivate"],
        MountKind::Proc => &["ro", "nosuid", "nodev", "noexec", "rbind", "rprivate"],
    };
    CdiMount {
        host_path: mount.host_path.clone(),
        container_path: mount.path.clone(),
        options: flags.iter().map(|f| (*f).to_owned()).collect(),
        kind: None,
    }
}

/// One hook for everything that mounts and nodes cannot say; none where that is nothing.
fn hooks(edits: &Edits, hook: &Path) -> Vec<Hook> {
    if edits.libraries.is_empty() && edits.links.is_empty() && !edits.forbid_device_node_creation {
        return Vec::new();
    }
    let mut args = vec!["gpu-container-hook".to_owned(), "cdi".to_owned()];
    for library in &edits.libraries {
        let flag = if library.compat32 {
            "--library32"
        } else {
            "--library"
        };
        args.push(flag.into());
        args.push(format!("{}={}", library.path.display(), library.soname));
    }
    for link in &edits.links {
        args.push("--link".into());
        args.push(format!("{}={}", link.path.display(), link.target.display()));
    }
    if edits.forbid_device_node_creation {
        args.push("--forbid-device-nodes".into());
    }
    vec![Hook {
        hook_name: "createContainer".into(),
        path: hook.to_owned(),
        args,
        env: vec![HOOK_ENV.into()],
        timeout: None,
    }]
}
