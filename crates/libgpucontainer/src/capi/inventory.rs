//! A host's inventory: its fields one by one, or all of it as JSON.

use std::ffi::{CString, c_char};

use gpu_host::{FileKind, Inventory};

use super::context::{Context, call, dropped, object, to_caller, why};
use super::text::{c_string, lent, owned, text};
use crate::GpuHost;

/// Everything on a host that containers can be given.
pub struct HostInventory {
    pub(super) inventory: Inventory,
    version: Option<CString>,
    gpus: Vec<GpuTexts>,
    files: Vec<[Option<CString>; 4]>,
}

struct GpuTexts {
    own: [Option<CString>; 5],
    slices: Vec<[Option<CString>; 2]>,
}

/// Fields for `gpc_gpu_text`. NULL if the value is unknown.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum GpuText {
    /// `GPU-…`
    Uuid = 0,
    /// Product name.
    Name = 1,
    /// Product line; known only from NVML.
    Brand = 2,
    /// PCI address, `0000:3b:00.0`.
    Pci = 3,
    /// `/dev/nvidiaN`, as containers see it.
    Node = 4,
}

/// Fields for `gpc_gpu_number`. -1 if the value is unknown.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum GpuNumber {
    /// NVML's index.
    Index = 0,
    /// The N of `/dev/nvidiaN`.
    Minor = 1,
    /// Compute capability, major number.
    ComputeMajor = 2,
    /// Compute capability, minor number.
    ComputeMinor = 3,
    /// 1 if the GPU is partitioned, else 0.
    MigEnabled = 4,
}

/// Fields for `gpc_mig_text`. NULL if the value is unknown.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum MigText {
    /// `MIG-…`
    Uuid = 0,
    /// `1g.10gb`
    Profile = 1,
}

/// Fields for `gpc_mig_number`.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum MigNumber {
    /// The second number of `0:1`.
    Index = 0,
    /// GPU instance id.
    GpuInstance = 1,
    /// Compute instance id.
    ComputeInstance = 2,
}

/// Fields for `gpc_file_text`.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum FileText {
    /// `library`, `library32`, `binary`, `firmware`, `config`, `socket` or `x-module`.
    Kind = 0,
    /// Path in containers.
    Path = 1,
    /// Path on the host.
    HostPath = 2,
    /// `DT_SONAME` of a library; NULL for others.
    Soname = 3,
}

impl HostInventory {
    fn new(inventory: Inventory) -> Self {
        let optional = |text: &Option<String>| text.as_ref().and_then(c_string);
        let gpus = inventory.gpus.iter().map(|gpu| GpuTexts {
            own: [
                optional(&gpu.uuid),
                optional(&gpu.name),
                optional(&gpu.brand),
                c_string(gpu.pci.to_string()),
                c_string(&gpu.node.path),
            ],
            slices: gpu
                .mig
                .iter()
                .map(|slice| [optional(&slice.uuid), optional(&slice.profile)])
                .collect(),
        });
        let driver = inventory.driver.as_ref();
        let files = driver.into_iter().flat_map(|d| &d.files).map(|file| {
            [
                c_string(kind(file.kind)),
                c_string(&file.path),
                c_string(&file.host_path),
                optional(&file.soname),
            ]
        });
        Self {
            version: driver.and_then(|d| c_string(&d.version)),
            gpus: gpus.collect(),
            files: files.collect(),
            inventory,
        }
    }
}

fn kind(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Library => "library",
        FileKind::Library32 => "library32",
        FileKind::Binary => "binary",
        FileKind::Firmware => "firmware",
        FileKind::Config => "config",
        FileKind::Socket => "socket",
        FileKind::XModule => "x-module",
    }
}

/// Looks at the host: at its stored inventory where that still holds, else at /proc, sysfs
/// and the driver's files. NULL on failure. A host without a driver is no failure.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_discover(context: *mut Context) -> *mut HostInventory {
    call(context, std::ptr::null_mut(), |context| {
        let host = GpuHost::load(&context.options).map_err(why)?;
        Ok(to_caller(HostInventory::new(host.inventory().clone())))
    })
}

/// Makes an inventory from JSON, as returned by `gpc_inventory_to_json` or stored in
/// `/run/gpusetup/inventory.json`. NULL on failure.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_inventory_from_json(
    context: *mut Context,
    json: *const c_char,
) -> *mut HostInventory {
    call(context, std::ptr::null_mut(), |_| {
        // SAFETY: the caller's text.
        let json = unsafe { text(json, "json")? };
        let inventory: Inventory =
            serde_json::from_str(json).map_err(|e| format!("not an inventory: {e}"))?;
        if inventory.schema != gpu_host::inventory::SCHEMA {
            return Err(format!("an inventory of format {}", inventory.schema));
        }
        Ok(to_caller(HostInventory::new(inventory)))
    })
}

/// All of it as JSON, for `gpc_string_free`. NULL on failure.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_inventory_to_json(
    context: *mut Context,
    inventory: *const HostInventory,
) -> *mut c_char {
    call(context, std::ptr::null_mut(), |_| {
        // SAFETY: from this library.
        let inventory = unsafe { object(inventory, "inventory")? };
        owned(serde_json::to_string(&inventory.inventory).map_err(|e| e.to_string())?)
    })
}

/// The CDI spec of all its devices as JSON, for `gpc_string_free`. NULL on failure, such as
/// a host without a driver.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_cdi_spec(
    context: *mut Context,
    inventory: *const HostInventory,
) -> *mut c_char {
    call(context, std::ptr::null_mut(), |context| {
        // SAFETY: from this library.
        let inventory = unsafe { object(inventory, "inventory")? };
        let host = GpuHost::of(inventory.inventory.clone(), context.policy()?);
        let spec = host.cdi_spec(&context.hook).map_err(why)?;
        owned(spec.to_json().map_err(|e| e.to_string())?)
    })
}

/// Ends an inventory, and the texts it lent.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_inventory_free(inventory: *mut HostInventory) {
    // SAFETY: from this library.
    unsafe { dropped(inventory) }
}

/// Version of the loaded driver; NULL where none is loaded.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_driver_version(inventory: *const HostInventory) -> *const c_char {
    // SAFETY: null or from this library.
    lent(unsafe { inventory.as_ref() }.and_then(|i| i.version.as_ref()))
}

/// Highest CUDA version of the driver, as 1000 times the major plus 10 times the minor
/// (`cuDriverGetVersion`); -1 where no source tells it.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_cuda_version(inventory: *const HostInventory) -> i64 {
    // SAFETY: null or from this library.
    let driver = unsafe { inventory.as_ref() }.and_then(|i| i.inventory.driver.as_ref());
    driver.and_then(|d| d.cuda).map_or(-1, |(major, minor)| {
        i64::from(major) * 1000 + i64::from(minor) * 10
    })
}

/// How many files the driver has; 0 for null.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_file_count(inventory: *const HostInventory) -> usize {
    // SAFETY: null or from this library.
    unsafe { inventory.as_ref() }.map_or(0, |i| i.files.len())
}

/// A field of file `file`, one of `gpc_file_text_field`; NULL where there is none.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_file_text(
    inventory: *const HostInventory,
    file: usize,
    field: u32,
) -> *const c_char {
    // SAFETY: null or from this library.
    let file = unsafe { inventory.as_ref() }.and_then(|i| i.files.get(file));
    lent(file.and_then(|f| f.get(field as usize)?.as_ref()))
}

/// How many GPUs there are; 0 for null.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_gpu_count(inventory: *const HostInventory) -> usize {
    // SAFETY: null or from this library.
    unsafe { inventory.as_ref() }.map_or(0, |i| i.gpus.len())
}

/// A field of GPU `gpu`, one of `gpc_gpu_text_field`; NULL where there is none.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_gpu_text(
    inventory: *const HostInventory,
    gpu: usize,
    field: u32,
) -> *const c_char {
    // SAFETY: null or from this library.
    let gpu = unsafe { inventory.as_ref() }.and_then(|i| i.gpus.get(gpu));
    lent(gpu.and_then(|g| g.own.get(field as usize)?.as_ref()))
}

/// A field of GPU `gpu`, one of `gpc_gpu_number_field`; -1 where there is none.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_gpu_number(
    inventory: *const HostInventory,
    gpu: usize,
    field: u32,
) -> i64 {
    // SAFETY: null or from this library.
    let Some(gpu) = unsafe { inventory.as_ref() }.and_then(|i| i.inventory.gpus.get(gpu)) else {
        return -1;
    };
    let capability = |part: fn((u32, u32)) -> u32| gpu.compute_capability.map(part);
    let fields = [
        Some(gpu.index),
        Some(gpu.minor),
        capability(|(major, _)| major),
        capability(|(_, minor)| minor),
        Some(gpu.mig_enabled.into()),
    ];
    number(&fields, field)
}

/// How many slices GPU `gpu` has; 0 where there is no such GPU.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_mig_count(inventory: *const HostInventory, gpu: usize) -> usize {
    // SAFETY: null or from this library.
    let gpu = unsafe { inventory.as_ref() }.and_then(|i| i.gpus.get(gpu));
    gpu.map_or(0, |g| g.slices.len())
}

/// A field of a slice, one of `gpc_mig_text_field`; NULL where there is none.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_mig_text(
    inventory: *const HostInventory,
    gpu: usize,
    slice: usize,
    field: u32,
) -> *const c_char {
    // SAFETY: null or from this library.
    let gpu = unsafe { inventory.as_ref() }.and_then(|i| i.gpus.get(gpu));
    let slice = gpu.and_then(|g| g.slices.get(slice));
    lent(slice.and_then(|s| s.get(field as usize)?.as_ref()))
}

/// A field of a slice, one of `gpc_mig_number_field`; -1 where there is none.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_mig_number(
    inventory: *const HostInventory,
    gpu: usize,
    slice: usize,
    field: u32,
) -> i64 {
    // SAFETY: null or from this library.
    let gpu = unsafe { inventory.as_ref() }.and_then(|i| i.inventory.gpus.get(gpu));
    let Some(slice) = gpu.and_then(|g| g.mig.get(slice)) else {
        return -1;
    };
    let fields = [slice.index, slice.gpu_instance, slice.compute_instance];
    number(&fields.map(Some), field)
}

fn number(fields: &[Option<u32>], field: u32) -> i64 {
    let value = fields.get(field as usize).copied().flatten();
    value.map_or(-1, i64::from)
}
