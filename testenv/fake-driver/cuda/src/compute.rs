//! What a program does before and after a kernel: contexts, modules, memory (in the host's RAM). The kernel itself is
//! never run: `cuLaunchKernel` answers that this is not supported, so that no program takes uncomputed memory for a
//! result.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::Mutex;

use crate::{INVALID_DEVICE, INVALID_VALUE, SUCCESS, devices, put};

const INVALID_IMAGE: c_uint = 200;
const NOT_FOUND: c_uint = 500;
const NOT_SUPPORTED: c_uint = 801;

/// The handle of a context or function, which only has to exist.
const HANDLE: usize = 0xfa4e;

/// Allocated blocks, by address.
static MEMORY: Mutex<BTreeMap<u64, Vec<u8>>> = Mutex::new(BTreeMap::new());

fn memory() -> std::sync::MutexGuard<'static, BTreeMap<u64, Vec<u8>>> {
    MEMORY
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The 16 bytes of a `GPU-` or `MIG-` name.
fn uuid_bytes(uuid: &str) -> [u8; 16] {
    let digits: Vec<u8> = uuid
        .chars()
        .skip("GPU-".len())
        .filter_map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect();
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    bytes
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetUuid_v2(uuid: *mut [u8; 16], device: c_int) -> c_uint {
    let devices = devices();
    match usize::try_from(device).ok().and_then(|n| devices.get(n)) {
        Some(device) => put(uuid, uuid_bytes(&device.uuid)),
        None => INVALID_DEVICE,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetUuid(uuid: *mut [u8; 16], device: c_int) -> c_uint {
    cuDeviceGetUuid_v2(uuid, device)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxCreate_v2(context: *mut usize, _flags: c_uint, device: c_int) -> c_uint {
    match usize::try_from(device) {
        Ok(n) if n < devices().len() => put(context, HANDLE),
        _ => INVALID_DEVICE,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxDestroy_v2(context: usize) -> c_uint {
    if context == HANDLE {
        SUCCESS
    } else {
        INVALID_VALUE
    }
}

/// Accepts only PTX, which it recognises by its first word. The module handle is a copy of the text.
#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoadData(module: *mut *const c_char, image: *const c_char) -> c_uint {
    if image.is_null() {
        return INVALID_VALUE;
    }
    // SAFETY: not null; PTX ends in NUL, as cuda.h requires.
    let text = unsafe { CStr::from_ptr(image) };
    if !text.to_bytes().trim_ascii_start().starts_with(b".version") {
        return INVALID_IMAGE;
    }
    // It is never freed, as there is no cuModuleUnload here.
    put(module, text.to_owned().into_raw().cast_const())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetFunction(
    function: *mut usize,
    module: *const c_char,
    name: *const c_char,
) -> c_uint {
    if module.is_null() || name.is_null() {
        return INVALID_VALUE;
    }
    // SAFETY: not null; the text that cuModuleLoadData returned, and a C string.
    let (text, name) = unsafe { (CStr::from_ptr(module), CStr::from_ptr(name)) };
    let wanted = format!(".entry {}(", name.to_string_lossy());
    if text.to_string_lossy().contains(&wanted) {
        put(function, HANDLE)
    } else {
        NOT_FOUND
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAlloc_v2(address: *mut u64, size: usize) -> c_uint {
    if size == 0 {
        return INVALID_VALUE;
    }
    let block = vec![0; size];
    let at = block.as_ptr() as u64;
    memory().insert(at, block);
    put(address, at)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFree_v2(address: u64) -> c_uint {
    if memory().remove(&address).is_some() {
        SUCCESS
    } else {
        INVALID_VALUE
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyHtoD_v2(to: u64, from: *const u8, size: usize) -> c_uint {
    match memory().get_mut(&to) {
        Some(block) if size <= block.len() && !from.is_null() => {
            // SAFETY: the block has that many bytes, and the caller says that `from` has.
            unsafe { std::ptr::copy_nonoverlapping(from, block.as_mut_ptr(), size) };
            SUCCESS
        }
        _ => INVALID_VALUE,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoH_v2(to: *mut u8, from: u64, size: usize) -> c_uint {
    match memory().get(&from) {
        Some(block) if size <= block.len() && !to.is_null() => {
            // SAFETY: the block has that many bytes, and the caller says that `to` has.
            unsafe { std::ptr::copy_nonoverlapping(block.as_ptr(), to, size) };
            SUCCESS
        }
        _ => INVALID_VALUE,
    }
}

/// Computes nothing, and returns an error that says so.
#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments, reason = "CUDA's own signature")]
pub extern "C" fn cuLaunchKernel(
    function: usize,
    _grid_x: c_uint,
    _grid_y: c_uint,
    _grid_z: c_uint,
    _block_x: c_uint,
    _block_y: c_uint,
    _block_z: c_uint,
    _shared: c_uint,
    _stream: *mut c_void,
    parameters: *mut *mut c_void,
    _extra: *mut *mut c_void,
) -> c_uint {
    if function != HANDLE || parameters.is_null() {
        return INVALID_VALUE;
    }
    NOT_SUPPORTED
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSynchronize() -> c_uint {
    SUCCESS
}
