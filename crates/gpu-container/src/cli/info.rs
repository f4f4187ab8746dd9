//! The command `info`: prints facts about the driver and its GPUs.

use std::fmt::Write;

use gpu_host::{Driver, Gpu, Inventory, PciAddress};

use super::failure::{Failure, Phase};
use super::options::InfoOptions;

/// Printed for unknown values. Without the stored inventory, which `gpusetup` makes with NVML, these
/// are the CUDA version, brand and architecture.
const UNKNOWN: &str = "N/A";

/// The text to print.
pub(super) fn text(inventory: &Inventory, options: &InfoOptions) -> Result<String, Failure> {
    if options.json {
        let json = serde_json::to_string_pretty(inventory);
        let failed = |e: serde_json::Error| Phase::Detection.failure(e.to_string());
        return json.map(|j| j + "\n").map_err(failed);
    }
    let (version, cuda) = versions(inventory.driver.as_ref());
    let gpus = inventory.gpus.iter();
    if options.csv {
        let rows: String = gpus.map(|g| cells(g).join(",") + "\n").collect();
        return Ok(format!(
            "NVRM version,CUDA version\n{version},{cuda}\n\n{}\n{rows}",
            COLUMNS.join(",")
        ));
    }
    let mut text = row("NVRM version", &version) + &row("CUDA version", &cuda);
    for gpu in gpus {
        let _ = writeln!(text);
        for (name, cell) in COLUMNS.iter().zip(cells(gpu)) {
            text += &row(name, &cell);
        }
    }
    Ok(text)
}

const COLUMNS: [&str; 7] = [
    "Device Index",
    "Device Minor",
    "Model",
    "Brand",
    "GPU UUID",
    "Bus Location",
    "Architecture",
];

fn row(name: &str, value: &str) -> String {
    format!("{:<15} {value}\n", format!("{name}:"))
}

fn pair(version: Option<(u32, u32)>) -> String {
    version.map_or(UNKNOWN.into(), |(major, minor)| format!("{major}.{minor}"))
}

fn versions(driver: Option<&Driver>) -> (String, String) {
    let version = driver.map_or(UNKNOWN.into(), |d| d.version.clone());
    (version, pair(driver.and_then(|d| d.cuda)))
}

fn cells(gpu: &Gpu) -> [String; 7] {
    let known = |text: &Option<String>| text.clone().unwrap_or(UNKNOWN.into());
    [
        gpu.index.to_string(),
        gpu.minor.to_string(),
        known(&gpu.name),
        known(&gpu.brand),
        known(&gpu.uuid),
        bus_location(gpu.pci),
        pair(gpu.compute_capability),
    ]
}

/// The PCI address in NVML's format, with eight digits for the domain.
fn bus_location(pci: PciAddress) -> String {
    let PciAddress {
        domain,
        bus,
        device,
        function,
    } = pci;
    format!("{domain:08x}:{bus:02x}:{device:02x}.{function:x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing;

    #[test]
    fn the_table_has_libnvidia_containers_format() {
        let output = text(&testing::host(), &InfoOptions::default()).unwrap();
        let first = "\
NVRM version:   580.65.06
CUDA version:   13.0

Device Index:   0
Device Minor:   0
Model:          NVIDIA H100
Brand:          N/A
GPU UUID:       GPU-0000aaaa
Bus Location:   00000000:3b:00.0
Architecture:   9.0

Device Index:   1
";
        assert!(output.starts_with(first), "{output}");
    }

    #[test]
    fn the_csv_tables_have_libnvidia_containers_format() {
        let options = InfoOptions {
            csv: true,
            ..InfoOptions::default()
        };
        let expected = "\
NVRM version,CUDA version
580.65.06,13.0

Device Index,Device Minor,Model,Brand,GPU UUID,Bus Location,Architecture
0,0,NVIDIA H100,N/A,GPU-0000aaaa,00000000:3b:00.0,9.0
1,1,NVIDIA H100,N/A,GPU-1000aaaa,00000000:af:00.0,9.0
";
        assert_eq!(text(&testing::host(), &options).unwrap(), expected);
    }
}
