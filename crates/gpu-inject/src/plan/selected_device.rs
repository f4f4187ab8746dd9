//! A GPU or MIG slice that was selected for a container.

use gpu_host::{Gpu, MigDevice};

/// A whole GPU or a slice of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SelectedDevice<'a> {
    Whole(&'a Gpu),
    Slice(&'a Gpu, &'a MigDevice),
}

impl<'a> SelectedDevice<'a> {
    pub(crate) fn gpu(self) -> &'a Gpu {
        match self {
            Self::Whole(gpu) | Self::Slice(gpu, _) => gpu,
        }
    }

    /// Identifies the device: the GPU's index and the slice's index on it.
    pub(super) fn number(self) -> (u32, Option<u32>) {
        match self {
            Self::Whole(gpu) => (gpu.index, None),
            Self::Slice(gpu, slice) => (gpu.index, Some(slice.index)),
        }
    }
}

/// The devices of a GPU: its slices if it is partitioned, else the GPU itself.
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
