//! The files that `gpusetup` and `gpu-container refresh` write on a host for engines and
//! container starts: the CDI spec, the stored inventory, the masked driver parameters, device
//! nodes, and the links by which systemd refers to the nodes.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use cdi::Spec;
use gpu_host::{DeviceNode, Inventory, Root};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, makedev, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, fchownat};

use super::{GenerateOptions, HOOK_PATH, KIND, SPEC_PATH, cdi_spec, inventory_store};
use crate::driver_params;
use crate::error::Error;

/// The files to write, each as path and text. An error if no driver is loaded.
pub fn files(root: &Root, inventory: &Inventory) -> Result<Vec<(&'static str, String)>, Error> {
    let inventory = with_nodes_as_stored(root, inventory.clone());
    let spec = cdi_spec(&inventory, &GenerateOptions::default())?;
    let stored = inventory_store::to_bytes(&inventory)?;
    let mut files = vec![
        (SPEC_PATH, spec.to_yaml()?),
        (
            inventory_store::PATH,
            String::from_utf8_lossy(&stored).into_owned(),
        ),
    ];
    match root.read_to_string(driver_params::PARAMS) {
        Ok(params) => files.push((
            driver_params::PARAMS_MASK,
            driver_params::masked_params(&params),
        )),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(Error::host(Path::new(driver_params::PARAMS))(e)),
    }
    Ok(files)
}

/// Keeps the stored list of missing nodes if none is missing in addition. A node that was missing
/// is in the spec by number, and the spec stays valid when the node appears.
fn with_nodes_as_stored(root: &Root, mut inventory: Inventory) -> Inventory {
    let text = root.read_to_string(inventory_store::PATH).ok();
    let stored: Option<Inventory> = text.and_then(|t| serde_json::from_str(&t).ok());
    // A GPU can have been left out for want of its node.
    let is_whole = |i: &Inventory| i.disputed.is_empty();
    let stored = stored.filter(|s| {
        is_whole(s) && is_whole(&inventory) && s.freshness.is_still(&inventory.freshness)
    });
    if let Some(stored) = stored {
        let was_missing = |n: &PathBuf| stored.missing_nodes.contains(n);
        if inventory.missing_nodes.iter().all(was_missing) {
            inventory.missing_nodes = stored.missing_nodes;
            inventory.freshness = stored.freshness;
        }
    }
    inventory
}

/// Every device node that containers can get, without duplicates.
pub fn nodes(inventory: &Inventory) -> impl Iterator<Item = &DeviceNode> {
    let mig = &inventory.mig_control;
    let control = inventory
        .control_nodes
        .iter()
        .map(|c| &c.node)
        .chain(mig.config.iter().chain(&mig.monitor))
        .chain(inventory.features.iter().flat_map(|f| &f.nodes))
        .chain(inventory.imex_channels.iter().map(|c| &c.node));
    let gpus = inventory.gpus.iter().flat_map(|gpu| {
        let slices = gpu.mig.iter().flat_map(|m| &m.nodes);
        std::iter::once(&gpu.node).chain(slices)
    });
    let mut seen = HashSet::new();
    control
        .chain(gpus)
        .filter(move |n| seen.insert((n.major, n.minor)))
}

/// The link `/dev/char/MAJOR:MINOR` of a node and its target, relative as in udev's links.
pub fn char_link(node: &DeviceNode) -> (PathBuf, String) {
    let path = Path::new("/dev/char").join(format!("{}:{}", node.major, node.minor));
    let target = match node.host_path.strip_prefix("/dev") {
        Ok(rest) => format!("../{}", rest.display()),
        // The driver root has its own dev, so the node is not below /dev.
        Err(_) => node.host_path.display().to_string(),
    };
    (path, target)
}

/// Makes a node in the host's own tree, by descriptor. A node that exists is left as it is.
pub fn make_node(root: &Root, node: &DeviceNode) -> io::Result<()> {
    let no_name = || io::Error::from(io::ErrorKind::InvalidInput);
    let dir = node.host_path.parent().ok_or_else(no_name)?;
    let name = node.host_path.file_name().ok_or_else(no_name)?;
    let opened = match root.open_dir(dir) {
        // The only directory that may be missing is /dev/nvidia-caps.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let parent = dir.parent().ok_or_else(no_name)?;
            let parent = root.open_dir(parent)?;
            match mkdirat(
                parent,
                dir.file_name().ok_or_else(no_name)?,
                Mode::from_bits_truncate(0o755),
            ) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(e) => return Err(e.into()),
            }
            root.open_dir(dir)?
        }
        other => other?,
    };
    let mode = Mode::from_bits_truncate(node.mode & 0o777);
    let number = makedev(node.major.into(), node.minor.into());
    match mknodat(&opened, name, SFlag::S_IFCHR, mode, number) {
        Ok(()) => {}
        Err(Errno::EEXIST) => return Ok(()),
        Err(e) => return Err(e.into()),
    }
    let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
    fchownat(
        &opened,
        name,
        Some(uid),
        Some(gid),
        AtFlags::AT_SYMLINK_NOFOLLOW,
    )?;
    // mknodat(2) applied the umask.
    fchmodat(&opened, name, mode, FchmodatFlags::FollowSymlink)?;
    Ok(())
}

/// Whether a CDI spec is of our kind. A file that we cannot parse may still be a valid spec for an
/// engine, so its text is searched for the kind.
pub fn is_of_our_kind(text: &str) -> bool {
    if let Ok(spec) = Spec::parse(text.as_bytes()) {
        return spec.kind == KIND;
    }
    let bare: String = text.chars().filter(|c| !"\"' \t".contains(*c)).collect();
    let kind = format!("kind:{KIND}");
    let mut rests = bare.split(&kind).skip(1);
    rests.any(|rest| rest.is_empty() || rest.starts_with(['\n', '\r', ',', '}']))
}

/// Whether a CDI spec was made by us: every one of ours calls our hook.
pub fn is_ours(text: &str) -> bool {
    let hook = Path::new(HOOK_PATH).file_name().and_then(|n| n.to_str());
    hook.is_some_and(|hook| text.contains(hook))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_specs_are_recognized_by_kind_and_hook() {
        let spec = |kind: &str| format!("cdiVersion: 0.5.0\nkind: {kind}\ndevices: []\n");
        assert!(is_of_our_kind(&spec("nvidia.com/gpu")));
        assert!(!is_of_our_kind(&spec("management.nvidia.com/gpu")));
        assert!(is_of_our_kind(
            "{\n \"kind\": \"nvidia.com/gpu\",\n \"unheard\": 1"
        ));
        assert!(is_of_our_kind(
            "{\"unheard\":1,\"kind\":\"nvidia.com/gpu\"}"
        ));
        assert!(!is_of_our_kind(
            "{\"unheard\":1,\"kind\":\"nvidia.com/gpus\"}"
        ));
        assert!(!is_of_our_kind("a: b"));
        assert!(is_ours("path: /usr/bin/gpu-container-hook\n"));
        assert!(!is_ours("path: /usr/bin/nvidia-cdi-hook\n"));
    }
}
