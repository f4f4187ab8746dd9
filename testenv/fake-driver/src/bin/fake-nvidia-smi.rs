//! The fake driver's nvidia-smi. It has the loader find `libnvidia-ml.so.1`, so that it works only in a container
//! with a correct ld.so.cache.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::process::ExitCode;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let nvml = match Nvml::builder()
        .lib_path(OsStr::new("libnvidia-ml.so.1"))
        .init()
    {
        Ok(nvml) => nvml,
        Err(NvmlError::LibloadingError(e)) => {
            println!("NVIDIA-SMI couldn't find libnvidia-ml.so library in your system: {e}");
            return ExitCode::from(12);
        }
        Err(_) => {
            println!(
                "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
            );
            return ExitCode::from(9);
        }
    };
    match print(&nvml, &args) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("nvidia-smi: {e}");
            ExitCode::FAILURE
        }
    }
}

fn print(nvml: &Nvml, args: &[String]) -> Result<ExitCode, NvmlError> {
    let count = nvml.device_count()?;
    if count == 0 {
        println!("No devices were found");
        return Ok(ExitCode::from(6));
    }
    let devices: Vec<Device<'_>> = (0..count)
        .map(|n| nvml.device_by_index(n))
        .collect::<Result<_, _>>()?;
    let query = args.iter().find_map(|a| a.strip_prefix("--query-gpu="));
    match (args.first().map(String::as_str), query) {
        (Some("-L" | "--list-gpus"), _) => list(&devices)?,
        (_, Some(fields)) => {
            let format = args
                .iter()
                .find_map(|a| a.strip_prefix("--format="))
                .unwrap_or("csv");
            if !format.split(',').any(|f| f == "noheader") {
                println!("{}", fields.replace(',', ", "));
            }
            let units = !format.split(',').any(|f| f == "nounits");
            for device in &devices {
                let values: Vec<String> = fields
                    .split(',')
                    .map(|f| field(nvml, device, f.trim(), units))
                    .collect::<Result<_, _>>()?;
                println!("{}", values.join(", "));
            }
        }
        (None, _) => table(nvml, &devices)?,
        (Some(other), _) => {
            println!("Invalid combination of input arguments: {other}");
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(devices: &[Device<'_>]) -> Result<(), NvmlError> {
    for (n, device) in devices.iter().enumerate() {
        println!("GPU {n}: {} (UUID: {})", device.name()?, device.uuid()?);
        if device.mig_mode()?.current == 0 {
            continue;
        }
        for index in 0..device.mig_device_count()? {
            let Ok(slice) = device.mig_device_by_index(index) else {
                continue;
            };
            let name = slice.name()?;
            let profile = name.rsplit_once(" MIG ").map_or(name.as_str(), |(_, p)| p);
            println!(
                "  MIG {profile:<12} Device {index:>2}: (UUID: {})",
                slice.uuid()?
            );
        }
    }
    Ok(())
}

fn field(nvml: &Nvml, device: &Device<'_>, name: &str, units: bool) -> Result<String, NvmlError> {
    let unit = if units { " MiB" } else { "" };
    Ok(match name {
        "index" => device.index()?.to_string(),
        "name" | "gpu_name" => device.name()?,
        "uuid" | "gpu_uuid" => device.uuid()?,
        "pci.bus_id" | "gpu_bus_id" => device.pci_info()?.bus_id,
        "driver_version" => nvml.sys_driver_version()?,
        "memory.total" => format!("{}{unit}", device.memory_info()?.total >> 20),
        _ => "[N/A]".into(),
    })
}

fn table(nvml: &Nvml, devices: &[Device<'_>]) -> Result<(), NvmlError> {
    let line = "+-----------------------------------------------------------------------------+";
    let cuda = nvml.sys_cuda_driver_version()?;
    let head = format!(
        "NVIDIA-SMI {0}   Driver Version: {0}   CUDA Version: {1}.{2}",
        nvml.sys_driver_version()?,
        cuda / 1000,
        cuda % 1000 / 10
    );
    println!("{line}\n| {head:<75} |\n{line}");
    for (n, device) in devices.iter().enumerate() {
        let memory = device.memory_info()?.total >> 20;
        let row = format!(
            "{n:>3}  {:<28} {:<18} {memory:>8} MiB",
            device.name()?,
            device.pci_info()?.bus_id
        );
        println!("| {row:<75} |");
    }
    println!("{line}");
    Ok(())
}
