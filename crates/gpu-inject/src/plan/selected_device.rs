//! A device of the host that a container gets.

use gpu_host::{Gpu, MigDevice};

/// A GPU or slices of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SelectedDevice<'a> {
    Whole(&'a Gpu),
    Slice(&'a Gpu, &'a MigDevice),
}

impl<'a> SelectedDevice<'a> {
    pub(super) fn gpu(self) -> &'a Gpu {
        match self {
            Self::Whole(gpu) | Self::Slice(gpu, _) => gpu,
        }
    }

    /// Which of the host's it is: the GPU's index and the slice's on it.
    pub(super) fn number(self) -> (u32, Option<u32>) {
        match self {
            Self::Whole(gpu) => (gpu.index, None),
            Self::Slice(gpu, slice) => (gpu.index, Some(slice.index)),
        }
    }
}

/// Every device of a partitioned GPU is its slices.
pub(crate) fn parts(gpu: &Gpu) -> Vec<SelectedDevice<'_>> {
    if gpu.mig_enabled {
        gpu.mig
            .iter()
            .map(|slice| SelectedDevice::Slice(gpu, slice))
            .collect()
    } else {
        vec![SelectedDevice::Whole(gpu)]
    }
}
