//! The fake driver's `libnvidia-ml.so.1`: the functions of nvml.h that tools call to find GPUs, answered from the
//! description and by which device nodes can be opened.
//!
//! Longer than 400 lines, since the exported functions of a library are one list.
#![allow(
    non_snake_case,
    clippy::missing_safety_doc,
    clippy::not_unsafe_ptr_arg_deref,
    reason = "NVML's own names and its C signatures; pointers are the caller's to get right"
)]
#![allow(
    missing_docs,
    reason = "each function is documented in nvml.h under its name"
)]

#[path = "../../visible.rs"]
#[allow(unreachable_pub, reason = "shared with the other library")]
mod visible;
#[path = "../../wire.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the installer")]
mod wire;

pub mod mig;

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wire::{Gpu, Slice, Wire};

type Return = c_uint;
const SUCCESS: Return = 0;
const UNINITIALIZED: Return = 1;
const INVALID_ARGUMENT: Return = 2;
const NOT_SUPPORTED: Return = 3;
const NOT_FOUND: Return = 6;
const INSUFFICIENT_SIZE: Return = 7;
const DRIVER_NOT_LOADED: Return = 9;

/// How many calls of nvmlInit have had no nvmlShutdown yet.
static USERS: AtomicU32 = AtomicU32::new(0);

/// What the nodes showed since then.
static SEEN: Mutex<Option<Arc<Wire>>> = Mutex::new(None);

fn is_initialized() -> bool {
    USERS.load(Ordering::SeqCst) > 0
}

/// A device handle is not an address but a number for a GPU and slice, from 1.
type Device = usize;
const SLOTS: usize = 16;

/// Writes through a pointer of the caller.
fn put<T>(to: *mut T, value: T) -> Return {
    if to.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: not null, and by the C signature it points to a T of the caller's.
    unsafe { to.write(value) };
    SUCCESS
}

/// Writes text with a final NUL into a buffer of the caller.
fn put_text(to: *mut c_char, length: c_uint, text: &str) -> Return {
    if to.is_null() {
        return INVALID_ARGUMENT;
    }
    if text.len() >= length as usize {
        return INSUFFICIENT_SIZE;
    }
    // SAFETY: not null, and by the caller's word it has `length` bytes, more than the text.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), to, text.len());
        to.add(text.len()).write(0);
    }
    SUCCESS
}

fn text<'a>(from: *const c_char) -> &'a str {
    if from.is_null() {
        return "";
    }
    // SAFETY: not null, and by the C signature it is a string that ends in NUL.
    unsafe { CStr::from_ptr(from) }.to_str().unwrap_or("")
}

/// The driver as it was at the first nvmlInit: the real library opens the nodes then, too.
fn seen() -> Arc<Wire> {
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(seen.get_or_insert_with(|| Arc::new(visible::now())))
}

fn forget() {
    *SEEN.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

fn find(device: Device) -> Option<(usize, Gpu, Option<Slice>)> {
    let number = device.checked_sub(1)?;
    let (index, slot) = (number / SLOTS, number % SLOTS);
    let gpu = seen().gpus.get(index)?.clone();
    let slice = match slot {
        0 => None,
        slot => Some(gpu.mig.get(slot - 1)?.clone()),
    };
    Some((index, gpu, slice))
}

fn with(device: Device, answer: impl FnOnce(usize, Gpu, Option<Slice>) -> Return) -> Return {
    if !is_initialized() {
        return UNINITIALIZED;
    }
    match find(device) {
        Some((index, gpu, slice)) => answer(index, gpu, slice),
        None => INVALID_ARGUMENT,
    }
}

fn driver(answer: impl FnOnce(Wire) -> Return) -> Return {
    if !is_initialized() {
        return UNINITIALIZED;
    }
    answer(Wire::clone(&seen()))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> Return {
    if !visible::opens("nvidiactl") {
        return DRIVER_NOT_LOADED;
    }
    std::thread::sleep(delay());
    if USERS.fetch_add(1, Ordering::SeqCst) == 0 {
        forget();
    }
    SUCCESS
}

/// As a driver without persistence mode, or one that waits for a lost GPU, if a file says so.
fn delay() -> Duration {
    let text = std::fs::read_to_string("/run/fake-nvml-delay").unwrap_or_default();
    Duration::from_secs(text.trim().parse().unwrap_or(0))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit() -> Return {
    nvmlInit_v2()
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> Return {
    nvmlInit_v2()
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> Return {
    let one_less = |n: u32| n.checked_sub(1);
    match USERS.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less) {
        Ok(_) => SUCCESS,
        Err(_) => UNINITIALIZED,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlErrorString(result: Return) -> *const c_char {
    match result {
        SUCCESS => c"Success",
        UNINITIALIZED => c"Uninitialized",
        INVALID_ARGUMENT => c"Invalid Argument",
        NOT_SUPPORTED => c"Not Supported",
        NOT_FOUND => c"Not Found",
        INSUFFICIENT_SIZE => c"Insufficient Size",
        DRIVER_NOT_LOADED => c"Driver Not Loaded",
        _ => c"Unknown Error",
    }
    .as_ptr()
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, length: c_uint) -> Return {
    driver(|d| put_text(version, length, &d.version))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetNVMLVersion(version: *mut c_char, length: c_uint) -> Return {
    driver(|d| put_text(version, length, &format!("13.{}", d.version)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetCudaDriverVersion(version: *mut c_int) -> Return {
    driver(|d| put(version, d.cuda))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetCudaDriverVersion_v2(version: *mut c_int) -> Return {
    nvmlSystemGetCudaDriverVersion(version)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> Return {
    driver(|d| put(count, c_uint::try_from(d.gpus.len()).unwrap_or(0)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCount(count: *mut c_uint) -> Return {
    nvmlDeviceGetCount_v2(count)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut Device) -> Return {
    let handle = index as usize * SLOTS + 1;
    with(handle, |_, _, _| put(device, handle))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetHandleByIndex(index: c_uint, device: *mut Device) -> Return {
    nvmlDeviceGetHandleByIndex_v2(index, device)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, device: *mut Device) -> Return {
    let uuid = text(uuid);
    driver(|d| {
        for (index, gpu) in d.gpus.iter().enumerate() {
            if gpu.uuid == uuid {
                return put(device, index * SLOTS + 1);
            }
            if let Some(slot) = gpu.mig.iter().position(|s| s.uuid == uuid) {
                return put(device, index * SLOTS + slot + 2);
            }
        }
        NOT_FOUND
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetHandleByPciBusId_v2(
    bus: *const c_char,
    device: *mut Device,
) -> Return {
    // "00000000:3B:00.0", "0000:3b:00.0" or "3b:00.0".
    let bus = text(bus).to_lowercase();
    driver(|d| {
        let fits = |g: &Gpu| {
            let short = g.pci.trim_start_matches("0000:");
            bus == g.pci || bus == format!("0000{}", g.pci) || bus == short
        };
        match d.gpus.iter().position(fits) {
            Some(index) => put(device, index * SLOTS + 1),
            None => NOT_FOUND,
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetHandleByPciBusId(bus: *const c_char, device: *mut Device) -> Return {
    nvmlDeviceGetHandleByPciBusId_v2(bus, device)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetName(device: Device, name: *mut c_char, length: c_uint) -> Return {
    with(device, |_, gpu, slice| match slice {
        None => put_text(name, length, &gpu.name),
        Some(slice) => put_text(name, length, &format!("{} MIG {}", gpu.name, slice.profile)),
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetUUID(device: Device, uuid: *mut c_char, length: c_uint) -> Return {
    with(device, |_, gpu, slice| {
        put_text(uuid, length, &slice.map_or(gpu.uuid, |s| s.uuid))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMinorNumber(device: Device, minor: *mut c_uint) -> Return {
    with(device, |_, gpu, slice| match slice {
        None => put(minor, gpu.minor),
        Some(_) => NOT_SUPPORTED,
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetIndex(device: Device, to: *mut c_uint) -> Return {
    with(device, |index, _, slice| match slice {
        None => put(to, c_uint::try_from(index).unwrap_or(0)),
        Some(_) => NOT_SUPPORTED,
    })
}

/// `nvmlPciInfo_t` as `_v3` fills it; the older calls fill less.
#[repr(C)]
#[derive(Default)]
pub struct PciInfo {
    bus_id_legacy: [c_char; 16],
    domain: c_uint,
    bus: c_uint,
    device: c_uint,
    pci_device_id: c_uint,
    pci_subsystem_id: c_uint,
    bus_id: [c_char; 32],
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPciInfo_v3(device: Device, pci: *mut PciInfo) -> Return {
    with(device, |_, gpu, _| {
        let mut numbers = gpu
            .pci
            .split([':', '.'])
            .map(|n| c_uint::from_str_radix(n, 16).unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        let (domain, bus, slot) = (next(), next(), next());
        let mut info = PciInfo {
            bus_id_legacy: [0; 16],
            domain,
            bus,
            device: slot,
            // H100 80GB HBM3 (pci.ids).
            pci_device_id: 0x2330_10de,
            pci_subsystem_id: 0x16c1_10de,
            bus_id: [0; 32],
        };
        put_text(info.bus_id_legacy.as_mut_ptr(), 16, &gpu.pci.to_uppercase());
        let long = format!("{domain:08X}:{bus:02X}:{slot:02X}.0");
        put_text(info.bus_id.as_mut_ptr(), 32, &long);
        put(pci, info)
    })
}

/// The beginning of `nvmlPciInfo_t` before version 3. The caller has zeroed the rest.
#[repr(C)]
pub struct PciInfoV1 {
    bus_id: [c_char; 16],
    domain: c_uint,
    bus: c_uint,
    device: c_uint,
    pci_device_id: c_uint,
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPciInfo(device: Device, pci: *mut PciInfoV1) -> Return {
    let mut full = PciInfo::default();
    match nvmlDeviceGetPciInfo_v3(device, &raw mut full) {
        SUCCESS => put(
            pci,
            PciInfoV1 {
                bus_id: full.bus_id_legacy,
                domain: full.domain,
                bus: full.bus,
                device: full.device,
                pci_device_id: full.pci_device_id,
            },
        ),
        failed => failed,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPciInfo_v2(device: Device, pci: *mut PciInfoV1) -> Return {
    nvmlDeviceGetPciInfo(device, pci)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetBrand(device: Device, brand: *mut c_uint) -> Return {
    // NVML_BRAND_NVIDIA
    with(device, |_, _, _| put(brand, 14))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetArchitecture(device: Device, architecture: *mut c_uint) -> Return {
    // NVML_DEVICE_ARCH_HOPPER
    with(device, |_, _, _| put(architecture, 9))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCudaComputeCapability(
    device: Device,
    major: *mut c_int,
    minor: *mut c_int,
) -> Return {
    with(device, |_, _, _| match put(major, 9) {
        SUCCESS => put(minor, 0),
        failed => failed,
    })
}

/// `nvmlMemory_t`, bytes.
#[repr(C)]
pub struct Memory {
    total: u64,
    free: u64,
    used: u64,
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMemoryInfo(device: Device, memory: *mut Memory) -> Return {
    const TOTAL: u64 = 80 << 30;
    with(device, |_, _, slice| {
        let total = if slice.is_some() { TOTAL / 8 } else { TOTAL };
        put(
            memory,
            Memory {
                total,
                free: total,
                used: 0,
            },
        )
    })
}

/// `nvmlMemory_v2_t`, bytes.
#[repr(C)]
pub struct MemoryV2 {
    version: c_uint,
    total: u64,
    reserved: u64,
    free: u64,
    used: u64,
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: Device, memory: *mut MemoryV2) -> Return {
    let mut first = Memory {
        total: 0,
        free: 0,
        used: 0,
    };
    match nvmlDeviceGetMemoryInfo(device, &raw mut first) {
        SUCCESS => put(
            memory,
            MemoryV2 {
                // The size, and the version in the high byte (NVML_STRUCT_VERSION).
                version: 0x0200_0028,
                total: first.total,
                reserved: 0,
                free: first.free,
                used: first.used,
            },
        ),
        failed => failed,
    }
}
