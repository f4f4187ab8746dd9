//! `gpusetup system`: makes the device nodes and links in /dev that containers need.

use std::path::PathBuf;

use gpu_host::{DeviceNode, NvmlUse, Options, discover};
use gpu_inject::generate::host_files;
use serde_json::json;

use crate::cli::args::{Common, SystemCommand};
use crate::commands::session::{EarlierRun, Rights, Session};
use crate::error::Error;
use crate::error::exit::Exit;
use crate::host::Host;
use crate::setup::device_nodes::not_loaded;
use crate::setup::{dev_char, gpu_files};
use crate::terminal::stdio;
use crate::transaction::regenerated;

pub fn run(host: &Host, common: &Common, command: &SystemCommand) -> Result<Exit, Error> {
    match command {
        SystemCommand::CreateDeviceNodes {
            control_devices,
            dev_root,
            dry_run,
        } => nodes(host, common, *control_devices, dev_root.clone(), *dry_run),
        SystemCommand::CreateDevCharSymlinks { dry_run } => links(host, common, *dry_run),
    }
}

fn nodes(
    host: &Host,
    common: &Common,
    control_only: bool,
    dev_root: Option<PathBuf>,
    dry_run: bool,
) -> Result<Exit, Error> {
    let options = Options {
        driver_root: host.driver_root.clone(),
        dev_root,
        // NVML is not used: a query to it makes device nodes by itself.
        nvml: NvmlUse::No,
        ..Options::new(host.root().clone())
    };
    let inventory = discover(&options).map_err(gpu_inject::Error::from)?;
    if inventory.driver.is_none() {
        return Err(gpu_inject::Error::NoDriver.into());
    }
    let is_control = |n: &DeviceNode| inventory.control_nodes.iter().any(|c| c.node == *n);
    let missing: Vec<&DeviceNode> = host_files::nodes(&inventory)
        .filter(|n| inventory.missing_nodes.contains(&n.host_path))
        .filter(|n| !control_only || is_control(n))
        .collect();
    if !dry_run && !missing.is_empty() {
        let _session = Session::begin(host, common, Rights::System, EarlierRun::Leave)?;
        regenerated::make_nodes(host, missing.iter().copied())?;
    }
    let not_loaded = not_loaded(&inventory);
    if common.json {
        let made: Vec<_> = missing
            .iter()
            .map(|n| json!({"path": n.host_path, "major": n.major, "minor": n.minor, "mode": n.mode}))
            .collect();
        let changed = !dry_run && !missing.is_empty();
        let document = json!({"schema": 1, "changed": changed, "nodes": made, "modules_not_loaded": not_loaded});
        stdio::result(&format!("{document}\n"));
        return Ok(Exit::Done);
    }
    let mut text = String::new();
    for n in missing {
        text += &format!("{} c {}:{}\n", n.host_path.display(), n.major, n.minor);
    }
    for module in not_loaded {
        text += &format!("no node of {module}: it is not loaded; `modprobe {module}` does that\n");
    }
    stdio::result(if text.is_empty() {
        "Nothing to do.\n"
    } else {
        &text
    });
    Ok(Exit::Done)
}

fn links(host: &Host, common: &Common, dry_run: bool) -> Result<Exit, Error> {
    let inventory = gpu_files::inventory(host)?;
    let changes = dev_char::links(host, &inventory)?;
    if !dry_run && !changes.is_empty() {
        let _session = Session::begin(host, common, Rights::System, EarlierRun::Leave)?;
        regenerated::make_files(host, &changes)?;
    }
    let target = |text: &Option<String>| text.clone().unwrap_or_default();
    if common.json {
        let made: Vec<_> = changes
            .iter()
            .map(|c| json!({"path": c.path, "target": target(&c.after)}))
            .collect();
        let changed = !dry_run && !changes.is_empty();
        let document = json!({"schema": 1, "changed": changed, "links": made});
        stdio::result(&format!("{document}\n"));
        return Ok(Exit::Done);
    }
    let text: String = changes
        .iter()
        .map(|c| format!("{} -> {}\n", c.path.display(), target(&c.after)))
        .collect();
    stdio::result(if text.is_empty() {
        "Nothing to do.\n"
    } else {
        &text
    });
    Ok(Exit::Done)
}
