//! Recognizes CUDA images that are older than today's variables.

use crate::oci::ContainerView;

/// Whether the image is one from before 2018, which sets `CUDA_VERSION` and no requirement.
pub(super) fn is_legacy_cuda_image(container: ContainerView<'_>) -> bool {
    let has = |name| container.env(name).is_some_and(|v| !v.is_empty());
    has("CUDA_VERSION") && !has("NVIDIA_REQUIRE_CUDA")
}
