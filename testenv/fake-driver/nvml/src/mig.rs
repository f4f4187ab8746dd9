//! MIG: whether a GPU is partitioned, into what, and the attributes of a slice.

use std::ffi::c_uint;

use super::{
    Device, INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED, Return, SLOTS, SUCCESS, put, visible, with,
};

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMigMode(
    device: Device,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> Return {
    with(device, |_, gpu, slice| {
        if slice.is_some() {
            return NOT_SUPPORTED;
        }
        let mode = c_uint::from(visible::is_partitioned(&gpu.uuid));
        match put(current, mode) {
            SUCCESS => put(pending, mode),
            failed => failed,
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMaxMigDeviceCount(device: Device, count: *mut c_uint) -> Return {
    with(device, |_, _, _| put(count, 7))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: Device,
    index: c_uint,
    slice: *mut Device,
) -> Return {
    with(device, |gpu_index, gpu, _| {
        let index = index as usize;
        if index >= gpu.mig.len() {
            return NOT_FOUND;
        }
        put(slice, gpu_index * SLOTS + index + 2)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetDeviceHandleFromMigDeviceHandle(
    slice: Device,
    device: *mut Device,
) -> Return {
    with(slice, |index, _, slice| match slice {
        Some(_) => put(device, index * SLOTS + 1),
        None => INVALID_ARGUMENT,
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceIsMigDeviceHandle(device: Device, answer: *mut c_uint) -> Return {
    with(device, |_, _, slice| {
        put(answer, c_uint::from(slice.is_some()))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetGpuInstanceId(device: Device, id: *mut c_uint) -> Return {
    with(device, |_, _, slice| {
        slice.map_or(NOT_SUPPORTED, |s| put(id, s.gpu_instance))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetComputeInstanceId(device: Device, id: *mut c_uint) -> Return {
    with(device, |_, _, slice| {
        slice.map_or(NOT_SUPPORTED, |s| put(id, s.compute_instance))
    })
}

/// `nvmlDeviceAttributes_t`.
#[repr(C)]
#[derive(Default)]
pub struct Attributes {
    multiprocessors: c_uint,
    shared_copy_engines: c_uint,
    shared_decoders: c_uint,
    shared_encoders: c_uint,
    shared_jpegs: c_uint,
    shared_ofas: c_uint,
    gpu_instance_slices: c_uint,
    compute_instance_slices: c_uint,
    memory_mb: u64,
}

/// The numbers of a profile such as `1g.10gb`.
fn profile(name: &str) -> Option<(c_uint, u64)> {
    let (slices, memory) = name.split_once("g.")?;
    Some((
        slices.parse().ok()?,
        memory.strip_suffix("gb")?.parse().ok()?,
    ))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetAttributes_v2(device: Device, out: *mut Attributes) -> Return {
    with(device, |_, _, slice| {
        let Some((slices, gigabytes)) = slice.and_then(|s| profile(&s.profile)) else {
            return NOT_SUPPORTED;
        };
        let attributes = Attributes {
            multiprocessors: 16 * slices,
            shared_copy_engines: slices,
            gpu_instance_slices: slices,
            compute_instance_slices: slices,
            memory_mb: gigabytes * 1024,
            ..Attributes::default()
        };
        put(out, attributes)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetAttributes(device: Device, out: *mut Attributes) -> Return {
    nvmlDeviceGetAttributes_v2(device, out)
}

/// `nvmlGpuInstanceProfileInfo_t`.
#[repr(C)]
#[derive(Default)]
pub struct ProfileInfo {
    id: c_uint,
    is_p2p_supported: c_uint,
    slices: c_uint,
    instances: c_uint,
    multiprocessors: c_uint,
    copy_engines: c_uint,
    decoders: c_uint,
    encoders: c_uint,
    jpegs: c_uint,
    ofas: c_uint,
    memory_mb: u64,
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetGpuInstanceProfileInfo(
    device: Device,
    profile: c_uint,
    out: *mut ProfileInfo,
) -> Return {
    /// `NVML_GPU_INSTANCE_PROFILE_1_SLICE`: the only profile that the fake GPUs have slices of.
    const ONE_SLICE: c_uint = 0;
    with(device, |_, gpu, slice| {
        if profile != ONE_SLICE || slice.is_some() || !visible::is_partitioned(&gpu.uuid) {
            return NOT_SUPPORTED;
        }
        let info = ProfileInfo {
            id: 19,
            slices: 1,
            instances: 7,
            multiprocessors: 16,
            copy_engines: 1,
            decoders: 1,
            memory_mb: 10 * 1024,
            ..ProfileInfo::default()
        };
        put(out, info)
    })
}
