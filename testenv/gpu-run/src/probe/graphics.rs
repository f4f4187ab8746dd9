//! What the Vulkan and EGL loaders list: NVIDIA's devices, and the number of others.

use gpu_run::probe_output::Graphics;

use crate::ffi::{EglLibrary, Library, VulkanLibrary};

const NVIDIA: u32 = 0x10de;

pub(crate) fn vulkan() -> Graphics {
    let library = match Library::open(c"libvulkan.so.1") {
        Ok(library) => library,
        Err(why) => return Graphics::NoLoader { why },
    };
    match VulkanLibrary::load(library).and_then(|v| v.devices()) {
        Err(why) => Graphics::Failed { why },
        Ok(devices) => {
            let (ours, others): (Vec<_>, Vec<_>) = devices
                .into_iter()
                .partition(|(vendor, _)| *vendor == NVIDIA);
            Graphics::Devices {
                nvidia: ours.into_iter().map(|(_, name)| name).collect(),
                others: others.len(),
            }
        }
    }
}

/// EGL does not name a vendor. Only NVIDIA's devices have the extension that maps them to a CUDA device.
pub(crate) fn egl() -> Graphics {
    let library = match Library::open(c"libEGL.so.1") {
        Ok(library) => library,
        Err(why) => return Graphics::NoLoader { why },
    };
    match EglLibrary::load(library).and_then(|e| e.devices()) {
        Err(why) => Graphics::Failed { why },
        Ok(devices) => {
            let (ours, others): (Vec<_>, Vec<_>) = devices
                .into_iter()
                .partition(|extensions| extensions.contains("EGL_NV_device_cuda"));
            Graphics::Devices {
                nvidia: ours,
                others: others.len(),
            }
        }
    }
}
