//! Images from before the variables by which one asks today.

use crate::oci::ContainerView;

/// An image of before 2018, which says its CUDA version and nothing of what it requires.
pub(super) fn is_legacy_cuda_image(container: ContainerView<'_>) -> bool {
    let says = |name| container.env(name).is_some_and(|v| !v.is_empty());
    says("CUDA_VERSION") && !says("NVIDIA_REQUIRE_CUDA")
}
