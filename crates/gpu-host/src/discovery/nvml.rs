//! Reads GPUs from NVML. Loads a library, so it is never used on the container start path.
//!
//! The only module of this crate with unsafe code: nvml-wrapper 0.13 does not wrap the two
//! NVML functions that give the instance ids of a MIG device.

use std::ffi::OsStr;

use nvml_wrapper::error::{NvmlError, nvml_try};
use nvml_wrapper::{Device, Nvml};

use super::nvml_reading::{NvmlGpu, NvmlReading, NvmlSlice};

/// What the NVML library at this path says; `None` if it cannot be loaded or is no NVML. A GPU that it cannot describe is a fault and no reason to lose the others.
pub fn read(library: &OsStr) -> Result<Option<NvmlReading>, NvmlError> {
    let nvml = match Nvml::builder().lib_path(library).init() {
        Ok(nvml) => nvml,
        Err(NvmlError::LibloadingError(_) | NvmlError::FailedToLoadSymbol(_)) => return Ok(None),
        Err(e) => return Err(e),
    };
    let cuda = nvml.sys_cuda_driver_version().ok().and_then(|v| {
        Some((
            u32::try_from(v / 1000).ok()?,
            u32::try_from(v % 1000 / 10).ok()?,
        ))
    });
    let mut reading = NvmlReading {
        cuda,
        ..NvmlReading::default()
    };
    for index in 0..nvml.device_count()? {
        match gpu(&nvml, index) {
            Ok(gpu) => reading.gpus.push(gpu),
            Err(e) => reading.faults.push(format!("NVML's GPU {index}: {e}")),
        }
    }
    Ok(Some(reading))
}

fn gpu(nvml: &Nvml, index: u32) -> Result<NvmlGpu, NvmlError> {
    let device = nvml.device_by_index(index)?;
    let mut gpu = NvmlGpu {
        index,
        minor: device.minor_number()?,
        pci: device
            .pci_info()?
            .bus_id
            .parse()
            .map_err(|_| NvmlError::Unknown)?,
        uuid: device.uuid()?,
        name: device.name().ok(),
        brand: device.brand().ok().map(|b| format!("{b:?}")),
        compute_capability: device
            .cuda_compute_capability()
            .ok()
            .and_then(|c| Some((u32::try_from(c.major).ok()?, u32::try_from(c.minor).ok()?))),
        // NVML answers NOT_SUPPORTED on a GPU without MIG, which then has no slices.
        mig_enabled: device.mig_mode().is_ok_and(|m| m.current == 1),
        slices: Vec::new(),
    };
    if gpu.mig_enabled {
        gpu.slices = slices(nvml, &device)?;
    }
    Ok(gpu)
}

fn slices(nvml: &Nvml, device: &Device<'_>) -> Result<Vec<NvmlSlice>, NvmlError> {
    let mut slices = Vec::new();
    for index in 0..device.mig_device_count()? {
        // The count is the maximum, not the number in use: an unused index gives NOT_FOUND.
        let slice = match device.mig_device_by_index(index) {
            Ok(slice) => slice,
            Err(NvmlError::NotFound | NvmlError::InvalidArg) => continue,
            Err(e) => return Err(e),
        };
        let (gpu_instance, compute_instance) = instance_ids(nvml, &slice)?;
        slices.push(NvmlSlice {
            index,
            gpu_instance,
            compute_instance,
            uuid: slice.uuid()?,
            // The name is, for instance, "NVIDIA H100 80GB HBM3 MIG 1g.10gb".
            profile: slice
                .name()
                .ok()
                .and_then(|n| Some(n.rsplit_once(" MIG ")?.1.to_owned())),
        });
    }
    Ok(slices)
}

fn instance_ids(nvml: &Nvml, slice: &Device<'_>) -> Result<(u32, u32), NvmlError> {
    let lib = nvml.lib();
    let missing = |_| NvmlError::FunctionNotFound;
    let gpu_instance = lib.nvmlDeviceGetGpuInstanceId.as_ref().map_err(missing)?;
    let compute_instance = lib
        .nvmlDeviceGetComputeInstanceId
        .as_ref()
        .map_err(missing)?;
    let (mut gi, mut ci) = (0, 0);
    // SAFETY: nvml-wrapper looked both functions up in NVML, and they have these signatures
    // (nvml.h). The handle is valid while `nvml` lives, and the pointers are to locals.
    unsafe {
        nvml_try(gpu_instance(slice.handle(), &raw mut gi))?;
        nvml_try(compute_instance(slice.handle(), &raw mut ci))?;
    }
    Ok((gi, ci))
}
