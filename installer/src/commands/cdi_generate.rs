//! `gpusetup cdi generate`: prints or writes a CDI spec of this host.

use std::path::{Path, PathBuf};

use cdi::Spec;
use gpu_host::other_vendors::{self, Vendor};
use gpu_host::{Feature, NvmlUse, Options, Source, discover};
use gpu_inject::generate::{
    GenerateOptions, NameStrategy, SpecContent, cdi_spec, other_vendor_spec,
};

use crate::cli::args::{Common, DescribeMode, GenerateArgs, NameBy, SpecFormat};
use crate::error::Error;
use crate::error::exit::Exit;
use crate::files::user_output;
use crate::host::Host;
use crate::setup::{driver_answer, gpu_files};
use crate::terminal::stdio::{self, say};

pub fn run(host: &Host, common: &Common, args: &GenerateArgs) -> Result<Exit, Error> {
    let spec = spec(host, common, args)?;
    let format = args.format.unwrap_or_else(|| format_of(&args.output));
    let text = match format {
        SpecFormat::Yaml => spec.to_yaml(),
        SpecFormat::Json => spec.to_json().map(|text| text + "\n"),
    };
    let text = text.map_err(gpu_inject::Error::from)?;
    print_or_write(&named(&args.output, format), &text)?;
    Ok(Exit::Done)
}

fn spec(host: &Host, common: &Common, args: &GenerateArgs) -> Result<Spec, Error> {
    let options = looking(host, args);
    let wanted = described(common, args);
    let vendor = match args.mode {
        DescribeMode::Amd => Vendor::Amd,
        DescribeMode::Intel => Vendor::Intel,
        _ => {
            let inventory = discover(&options).map_err(gpu_inject::Error::from)?;
            if matches!(wanted.mode, SpecContent::Gpu | SpecContent::Management)
                && let Some(mismatch) = gpu_files::mismatch_with(&options, &inventory)
            {
                say!("gpusetup: warning: {mismatch}");
            }
            for remark in driver_answer::remarks(&inventory) {
                say!("gpusetup: warning: {remark}");
            }
            return Ok(cdi_spec(&inventory, &wanted)?);
        }
    };
    let devices = other_vendors::find(&options, vendor);
    Ok(other_vendor_spec(&devices, vendor, &wanted)?)
}

/// Where to look for the driver and its files.
fn looking(host: &Host, args: &GenerateArgs) -> Options {
    let source = match args.mode {
        DescribeMode::Csv => Some(Source::Tegra),
        DescribeMode::Wsl => Some(Source::Wsl),
        DescribeMode::Nvml | DescribeMode::Procfs => Some(Source::Nvidia),
        // Only a Jetson has CSV lists, so naming them asks for its mode.
        DescribeMode::Auto if !args.csv_files.is_empty() => Some(Source::Tegra),
        _ => None,
    };
    Options {
        driver_root: host.driver_root.clone(),
        dev_root: args.dev_root.clone(),
        nvml: match args.mode {
            DescribeMode::Procfs => NvmlUse::No,
            // Who asks for NVML by name waits for it.
            DescribeMode::Nvml => driver_answer::within(host, driver_answer::PATIENT),
            _ => driver_answer::within(host, driver_answer::SOON),
        },
        source,
        library_search: args.libraries.clone(),
        config_search: args.configs.clone(),
        csv_files: args.csv_files.clone(),
        ..Options::new(host.root().clone())
    }
}

/// What the spec should describe.
fn described(common: &Common, args: &GenerateArgs) -> GenerateOptions {
    let mode = match args.mode {
        DescribeMode::Management => SpecContent::Management,
        DescribeMode::Gds => SpecContent::Feature(Feature::Gds),
        DescribeMode::Mofed => SpecContent::Feature(Feature::Mofed),
        DescribeMode::Nvswitch => SpecContent::Feature(Feature::Nvswitch),
        DescribeMode::Gdrcopy => SpecContent::Feature(Feature::Gdrcopy),
        DescribeMode::Imex => SpecContent::Imex,
        _ => SpecContent::Gpu,
    };
    let is_none = |id: &&String| *id == "none";
    let devices: Vec<String> = args
        .devices
        .iter()
        .filter(|d| !is_none(d))
        .cloned()
        .collect();
    let has_none = args.devices.iter().any(|d| is_none(&d));
    if has_none && !common.quiet {
        say!(
            "gpusetup: warning: --device-id none leaves out the device `all`; --no-all-device says so"
        );
    }
    GenerateOptions {
        hook_path: args.hook_path.clone(),
        mode,
        vendor: args.vendor.clone(),
        class: args.class.clone(),
        names: args
            .names
            .iter()
            .map(|by| match by {
                NameBy::Index => NameStrategy::Index,
                NameBy::Uuid => NameStrategy::Uuid,
                NameBy::TypeIndex => NameStrategy::TypeIndex,
            })
            .collect(),
        devices: Some(devices).filter(|d| !d.is_empty()),
        all: !args.no_all_device && !has_none,
        ..GenerateOptions::default()
    }
}

fn format_of(output: &Path) -> SpecFormat {
    if output.extension().is_some_and(|e| e == "json") {
        SpecFormat::Json
    } else {
        SpecFormat::Yaml
    }
}

/// Appends `.yaml` or `.json` unless the name has it: engines read no other extensions.
fn named(output: &Path, format: SpecFormat) -> PathBuf {
    let has_one = output
        .extension()
        .is_some_and(|e| e == "yaml" || e == "json");
    if has_one || output == Path::new("-") {
        return output.to_owned();
    }
    let mut name = output.as_os_str().to_owned();
    name.push(match format {
        SpecFormat::Yaml => ".yaml",
        SpecFormat::Json => ".json",
    });
    name.into()
}

/// Writes the text to a file, or to standard output if the path is `-`.
pub(super) fn print_or_write(output: &Path, text: &str) -> Result<(), Error> {
    if output == Path::new("-") {
        stdio::result(text);
        return Ok(());
    }
    user_output::write(output, text)
}
