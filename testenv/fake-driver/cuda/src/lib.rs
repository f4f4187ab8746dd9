//! The fake driver's `libcuda.so.1`: enough of cuda.h to count devices, by which device nodes can be opened, and to
//! do everything up to launching a kernel.
#![allow(
    non_snake_case,
    clippy::not_unsafe_ptr_arg_deref,
    reason = "CUDA's own names and its C signatures; pointers are the caller's to get right"
)]
#![allow(
    missing_docs,
    reason = "each function is documented in cuda.h under its name"
)]

// Public, so that the library exports its functions.
pub mod compute;
#[path = "../../visible.rs"]
#[allow(unreachable_pub, reason = "shared with the other library")]
mod visible;
#[path = "../../wire.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the installer")]
mod wire;

use std::ffi::{c_char, c_int, c_uint};
use std::sync::atomic::{AtomicBool, Ordering};

const SUCCESS: c_uint = 0;
const INVALID_VALUE: c_uint = 1;
const NOT_INITIALIZED: c_uint = 3;
const NO_DEVICE: c_uint = 100;
const INVALID_DEVICE: c_uint = 101;

/// Set by cuInit. Only cuDriverGetVersion works before it.
static INITIALIZED: AtomicBool = AtomicBool::new(false);

fn put<T>(to: *mut T, value: T) -> c_uint {
    if to.is_null() {
        return INVALID_VALUE;
    }
    // SAFETY: not null, and by the C signature it points to a T of the caller's.
    unsafe { to.write(value) };
    SUCCESS
}

/// A device as CUDA lists it.
struct Device {
    name: String,
    uuid: String,
}

/// The GPUs, or the slices of those that are partitioned.
fn devices() -> Vec<Device> {
    if !visible::opens("nvidiactl") || !visible::opens("nvidia-uvm") {
        return Vec::new();
    }
    let mut devices = Vec::new();
    for gpu in visible::now().gpus {
        if visible::is_partitioned(&gpu.uuid) {
            devices.extend(gpu.mig.iter().map(|slice| Device {
                name: format!("{} MIG {}", gpu.name, slice.profile),
                uuid: slice.uuid.clone(),
            }));
        } else {
            devices.push(Device {
                name: gpu.name,
                uuid: gpu.uuid,
            });
        }
    }
    devices
}

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(_flags: c_uint) -> c_uint {
    if devices().is_empty() {
        return NO_DEVICE;
    }
    INITIALIZED.store(true, Ordering::SeqCst);
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDriverGetVersion(version: *mut c_int) -> c_uint {
    put(version, visible::now().cuda)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetCount(count: *mut c_int) -> c_uint {
    if !INITIALIZED.load(Ordering::SeqCst) {
        return NOT_INITIALIZED;
    }
    put(count, c_int::try_from(devices().len()).unwrap_or(0))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> c_uint {
    if !INITIALIZED.load(Ordering::SeqCst) {
        return NOT_INITIALIZED;
    }
    match usize::try_from(ordinal) {
        Ok(n) if n < devices().len() => put(device, ordinal),
        _ => INVALID_DEVICE,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetName(name: *mut c_char, length: c_int, device: c_int) -> c_uint {
    let devices = devices();
    let Some(device) = usize::try_from(device).ok().and_then(|n| devices.get(n)) else {
        return INVALID_DEVICE;
    };
    let full_name = &device.name;
    let room = usize::try_from(length).unwrap_or(0);
    if name.is_null() || room == 0 {
        return INVALID_VALUE;
    }
    let text = &full_name.as_bytes()[..full_name.len().min(room - 1)];
    // SAFETY: not null, and by the caller's word it has `length` bytes, more than the text.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), name, text.len());
        name.add(text.len()).write(0);
    }
    SUCCESS
}
