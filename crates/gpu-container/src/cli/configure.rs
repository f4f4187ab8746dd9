//! The command `configure`: gives an existing container the devices and files that its options name.

use std::path::{Path, PathBuf};

use gpu_host::Inventory;
use gpu_inject::policy::Policy;
use gpu_inject::request::Request;
use gpu_inject::{Edits, host, live, plan};

use super::configure_options::Configure;
use super::failure::{self, Failure, Phase};
use super::inventory::inventory;
use super::log::Log;
use super::options::Global;
use super::select::select;
use super::target;

/// Runs the command. Enters the container's namespaces and stays there.
pub(super) fn run(
    global: &Global,
    options: &Configure,
    rootfs: Option<PathBuf>,
    log: &Log,
) -> Result<(), Failure> {
    let mut target = target::find(options, rootfs)?;
    target.no_cgroups |= no_cgroups(global)?;
    if !target.no_cgroups {
        target.systemd = live::SystemdManager::connect();
    }
    let rootfs = target.rootfs.display();
    log.info(format!("{target} with root file system {rootfs}"));
    let mut inventory = inventory(global, log)?;
    options.devices.left_out.take_from(&mut inventory);
    let edits = edits(&inventory, options)?;
    for node in &edits.devices {
        log.info(format!("device {}", node.path.display()));
    }
    for mount in &edits.mounts {
        let (from, to) = (mount.host_path.display(), mount.path.display());
        log.info(format!("{from} at {to}"));
    }
    let notes = live::inject(&target, &edits);
    let notes = notes.map_err(|e| failure::of_injection(&e, &target.rootfs))?;
    // Without --debug nobody reads `log`, and what the container lacks must be said somewhere.
    crate::log::notes(&notes.warnings);
    for note in notes.warnings {
        log.warn(&*note);
    }
    for text in notes.left_out {
        log.info(text);
    }
    log.info("done");
    Ok(())
}

/// The policy's `no-cgroups`, which applies to every caller, for instance a rootless engine.
fn no_cgroups(global: &Global) -> Result<bool, Failure> {
    let policy = host::policy(Path::new("/"), global.config.as_deref());
    policy
        .map(|p| p.no_cgroups)
        .map_err(|e| failure::of_plan(&e))
}

/// The edits for these options.
fn edits(inventory: &Inventory, options: &Configure) -> Result<Edits, Failure> {
    let devices = &options.devices;
    let chosen = select(inventory, devices.ids.as_deref().unwrap_or_default())?;
    let request = Request {
        visible: chosen.visible(),
        capabilities: options.capabilities,
        requirements: options.requirements.clone(),
        imex: devices.imex.clone(),
        mig_config: chosen.mig_control(&devices.mig_config, Phase::MigConfig)?,
        mig_monitor: chosen.mig_control(&devices.mig_monitor, Phase::MigMonitor)?,
        ..Request::default()
    };
    // The policy is not applied here, because our caller has checked the request already: NVIDIA's
    // hook by the same file, other callers by their own rules.
    let mut edits =
        plan::plan(inventory, &request, &Policy::default()).map_err(|e| failure::of_plan(&e))?;
    if options.no_image_libraries {
        edits.cuda_compat = None;
    }
    Ok(edits)
}

#[cfg(test)]
mod tests {
    use super::super::argp::{Order, parse};
    use super::super::configure_options::CONFIGURE;
    use super::*;
    use crate::cli::testing;

    fn planned(line: &str) -> Result<Edits, String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let mut options = Configure::default();
        parse(&CONFIGURE, &args, Order::Nowhere, &mut options).unwrap();
        let mut inventory = testing::host();
        options.devices.left_out.take_from(&mut inventory);
        edits(&inventory, &options).map_err(|f| f.to_string())
    }

    fn devices(edits: &Edits) -> Vec<String> {
        let paths = edits.devices.iter().map(|d| d.path.display().to_string());
        paths
            .filter(|p| !p.contains("uvm") && !p.contains("modeset"))
            .collect()
    }

    #[test]
    fn options_become_edits() {
        let one = planned("--device=0 --utility").unwrap();
        assert_eq!(devices(&one), ["/dev/nvidiactl", "/dev/nvidia0"]);
        assert!(
            one.mounts
                .iter()
                .all(|m| !m.path.ends_with("libcuda.so.580.65.06"))
        );
        let none = planned("--utility").unwrap();
        assert_eq!(devices(&none), ["/dev/nvidiactl"]);
        let slice = planned("--device=1:1 --compute").unwrap();
        let expected = [
            "/dev/nvidiactl",
            "/dev/nvidia1",
            "/dev/nvidia-caps/nvidia-cap11",
            "/dev/nvidia-caps/nvidia-cap21",
        ];
        assert_eq!(devices(&slice), expected);
        let bare = planned("--device=0").unwrap();
        assert_eq!(bare.mounts, []);
    }

    #[test]
    fn parts_can_be_left_out() {
        let all = planned("--utility --compute").unwrap();
        let fewer = planned(
            "--utility --compute --no-persistenced --no-fabricmanager --no-gsp-firmware --no-cntlibs",
        );
        let fewer = fewer.unwrap();
        assert_eq!(fewer.mounts.len(), all.mounts.len() - 3);
        assert_eq!(fewer.cuda_compat, None);
    }

    #[test]
    fn each_refusal_has_its_phase() {
        for (line, expected) in [
            ("--device=9", "device error: 9: unknown device"),
            (
                "--device=0 --mig-config=1",
                "mig-config error: 1: only 'all'",
            ),
            (
                "--device=1:0 --mig-monitor=all",
                "mig-monitor error: all: cannot enable",
            ),
            (
                "--device=0 --require=cuda>=99.0",
                "requirement error: unsatisfied condition: cuda>=99.0, please update",
            ),
            ("--require=odd", "requirement error: "),
        ] {
            let message = planned(line).unwrap_err();
            assert!(message.starts_with(expected), "{message}");
        }
        planned("--device=0 --require=cuda>=12,driver>=500").unwrap();
    }
}
