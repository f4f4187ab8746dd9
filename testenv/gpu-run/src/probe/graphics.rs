//! What the loaders of Vulkan and EGL list, NVIDIA's devices apart from those of others.

use gpu_run::seen::Graphics;

use crate::foreign::{Egl, Library, Vulkan};

const NVIDIA: u32 = 0x10de;

pub(crate) fn vulkan() -> Graphics {
    let library = match Library::open(c"libvulkan.so.1") {
        Ok(library) => library,
        Err(why) => return Graphics::NoLoader { why },
    };
    match Vulkan::load(library).and_then(|v| v.devices()) {
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

/// EGL tells no maker. Only NVIDIA's devices can say which CUDA device they are.
pub(crate) fn egl() -> Graphics {
    let library = match Library::open(c"libEGL.so.1") {
        Ok(library) => library,
        Err(why) => return Graphics::NoLoader { why },
    };
    match Egl::load(library).and_then(|e| e.devices()) {
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
