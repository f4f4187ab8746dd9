//! Reads GPUs from NVML. Loads a library, so it is never used on the container start path.
//!
//! The only module of this crate with unsafe code: nvml-wrapper 0.13 does not wrap the two
//! NVML functions that give the instance ids of a MIG device.

use std::ffi::OsStr;

use nvml_wrapper::error::{NvmlError, nvml_try};
use nvml_wrapper::{Device, Nvml};

use super::mig::Caps;
use super::nodes::Dev;
use super::procfs::Gpus;
use crate::inventory::{Driver, DriverFile, FileKind, Gpu, MigDevice, PciAddress};

/// The GPUs in NVML's index order, and the highest CUDA version that the driver supports.
pub(crate) fn gpus(dev: &Dev<'_>, driver: &Driver) -> Result<Gpus, NvmlError> {
    let nvml = Nvml::builder().lib_path(library(driver)?).init()?;
    let cuda = nvml.sys_cuda_driver_version().ok().and_then(|v| {
        Some((
            u32::try_from(v / 1000).ok()?,
            u32::try_from(v % 1000 / 10).ok()?,
        ))
    });
    let mut gpus = Vec::new();
    for index in 0..nvml.device_count()? {
        gpus.push(gpu(dev, &nvml, index)?);
    }
    Ok((gpus, cuda))
}

/// Path of this driver's NVML library.
pub(crate) fn library(driver: &Driver) -> Result<&OsStr, NvmlError> {
    let is_nvml = |f: &&DriverFile| {
        f.kind == FileKind::Library && f.soname.as_deref() == Some("libnvidia-ml.so.1")
    };
    let file = driver.files.iter().find(is_nvml);
    Ok(file.ok_or(NvmlError::NotFound)?.host_path.as_os_str())
}

fn gpu(dev: &Dev<'_>, nvml: &Nvml, index: u32) -> Result<Gpu, NvmlError> {
    let device = nvml.device_by_index(index)?;
    let minor = device.minor_number()?;
    let bus_id = device.pci_info()?.bus_id;
    let pci: PciAddress = bus_id.parse().map_err(|_| NvmlError::Unknown)?;
    let mut gpu = Gpu {
        index,
        minor,
        uuid: Some(device.uuid()?),
        name: device.name().ok(),
        brand: device.brand().ok().map(|b| format!("{b:?}")),
        compute_capability: device
            .cuda_compute_capability()
            .ok()
            .and_then(|c| Some((u32::try_from(c.major).ok()?, u32::try_from(c.minor).ok()?))),
        pci,
        node: dev.gpu(minor),
        drm: Vec::new(),
        drm_links: Vec::new(),
        mig_enabled: false,
        mig: Vec::new(),
    };
    // NVML answers NOT_SUPPORTED on a GPU without MIG, which then has no slices.
    gpu.mig_enabled = device.mig_mode().is_ok_and(|m| m.current == 1);
    if gpu.mig_enabled {
        gpu.mig = slices(dev, nvml, &device, minor)?;
    }
    Ok(gpu)
}

fn slices(
    dev: &Dev<'_>,
    nvml: &Nvml,
    device: &Device<'_>,
    minor: u32,
) -> Result<Vec<MigDevice>, NvmlError> {
    let caps = Caps::new(dev);
    let mut slices = Vec::new();
    for index in 0..device.mig_device_count()? {
        // The count is the maximum, not the number in use: an unused index gives NOT_FOUND.
        let slice = match device.mig_device_by_index(index) {
            Ok(slice) => slice,
            Err(NvmlError::NotFound | NvmlError::InvalidArg) => continue,
            Err(e) => return Err(e),
        };
        let ids = instance_ids(nvml, &slice)?;
        let mut device = caps.device(minor, index, ids);
        device.uuid = Some(slice.uuid()?);
        // The name is, for instance, "NVIDIA H100 80GB HBM3 MIG 1g.10gb".
        device.profile = slice
            .name()
            .ok()
            .and_then(|n| Some(n.rsplit_once(" MIG ")?.1.to_owned()));
        slices.push(device);
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
