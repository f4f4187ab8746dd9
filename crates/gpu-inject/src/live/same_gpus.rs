//! Checks that a container's nodes still stand for the GPUs for which its CDI spec was made. An engine reads a spec by its text,
//! and GPUs can have changed since.

use std::path::Path;

use gpu_host::{Root, kernel_list};

use crate::edits::{Edits, GpuIdentity};
use crate::error::Error;
use crate::rootfs::Rootfs;
use crate::rootfs_edits::gpu_nodes;

/// Refuses a container with a node that stands for another GPU by now, or for one that has another index.
pub(super) fn ensure(rootfs: &Rootfs, edits: &Edits) -> Result<(), Error> {
    if edits.gpus.is_empty() {
        return Ok(());
    }
    let path = Path::new("/");
    let root = Root::open(path).map_err(Error::host(path))?;
    ensure_by(
        &root,
        &gpu_nodes::minors(rootfs).collect::<Vec<_>>(),
        &edits.gpus,
    )
}

/// The same for the GPUs that a host's tree has now. Without a driver there is nothing to compare: its nodes then lead nowhere.
fn ensure_by(root: &Root, given: &[u32], expected: &[GpuIdentity]) -> Result<(), Error> {
    let mut expected = expected
        .iter()
        .filter(|gpu| given.contains(&gpu.minor))
        .peekable();
    if expected.peek().is_none() {
        return Ok(());
    }
    let path = Path::new(kernel_list::GPUS);
    let listed = kernel_list::listed(root).map_err(Error::host(path))?;
    if listed.is_empty() {
        return Ok(());
    }
    for gpu in expected {
        if let Some(now) = change(gpu, &listed) {
            return Err(Error::OtherGpu {
                index: gpu.index,
                pci: gpu.pci.to_string(),
                now,
            });
        }
    }
    Ok(())
}

/// What the GPU is now, if it is not as it was.
fn change(expected: &GpuIdentity, listed: &[kernel_list::ListedGpu]) -> Option<String> {
    let mut usable = kernel_list::usable(listed);
    let Some((index, gpu)) = usable.find(|(_, gpu)| gpu.pci == expected.pci) else {
        return Some("it is not there".into());
    };
    if gpu.minor != Some(expected.minor) {
        return Some(match gpu.minor {
            Some(minor) => format!(
                "its node is /dev/nvidia{minor}, and was /dev/nvidia{}",
                expected.minor
            ),
            None => "it has no node".into(),
        });
    }
    if let (Some(now), Some(before)) = (&gpu.uuid, &expected.uuid)
        && now != before
    {
        return Some(format!("its UUID is {now}, and was {before}"));
    }
    (index != expected.index).then(|| format!("its index is {index}"))
}

#[cfg(test)]
mod walk;

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(pci: &str, minor: u32, uuid: Option<&str>) -> kernel_list::ListedGpu {
        kernel_list::ListedGpu {
            pci: pci.parse().unwrap(),
            minor: Some(minor),
            uuid: uuid.map(str::to_owned),
            model: None,
            is_excluded: false,
        }
    }

    #[test]
    fn every_change_of_a_gpu_is_noticed() {
        let expected = GpuIdentity {
            minor: 1,
            index: 1,
            pci: "0000:3b:00.0".parse().unwrap(),
            uuid: Some("GPU-b".into()),
        };
        let first = || listed("0000:1a:00.0", 0, Some("GPU-a"));
        let as_before = || listed("0000:3b:00.0", 1, Some("GPU-b"));
        assert_eq!(change(&expected, &[first(), as_before()]), None);
        // The driver tells the UUID only after it has used the GPU.
        let unused = listed("0000:3b:00.0", 1, None);
        assert_eq!(change(&expected, &[first(), unused]), None);
        let excluded = |gpu| kernel_list::ListedGpu {
            is_excluded: true,
            ..gpu
        };
        for now in [
            vec![],
            vec![first()],
            vec![as_before()],
            vec![excluded(first()), as_before()],
            vec![first(), excluded(as_before())],
            vec![first(), listed("0000:3b:00.0", 2, Some("GPU-b"))],
            vec![first(), listed("0000:3b:00.0", 1, Some("GPU-c"))],
            vec![first(), listed("0000:3c:00.0", 1, Some("GPU-b"))],
            vec![first(), listed("0000:2b:00.0", 2, None), as_before()],
        ] {
            assert!(change(&expected, &now).is_some(), "{now:?}");
        }
    }
}
