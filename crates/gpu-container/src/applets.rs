//! Selects the program to run by the name this binary was started with.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::exit::ExitCode;
use crate::{cli, hook, log, nvidia_ctk, probe, refresh, runtime};

const USAGE: &str = "\
gpu-container: GPUs for containers. Started by container engines, not by hand.

  gpu-container runtime ARGS…     OCI runtime: edits config.json, then runs runc or crun
  gpu-container hook cdi …        the hook of our CDI spec
  gpu-container prestart          the hook of `docker run --gpus`
  gpu-container cli …             info, list and configure, as nvidia-container-cli has them
  gpu-container refresh           the CDI spec and device nodes, at boot and when GPUs change
  gpu-container probe             what a container sees of GPUs, as JSON

`gpusetup` sets engines up to start it.";

/// Runs the program with this name.
pub(crate) fn run(name: &OsStr, mut args: Vec<OsString>) -> ExitCode {
    let name = Path::new(name).file_name().unwrap_or_default();
    let applet = match name.to_str() {
        // Also the case if an engine starts a hook by the link's target instead of the link.
        Some("gpu-container") | None => {
            if args.is_empty() {
                log::say(USAGE);
                return ExitCode::from(4);
            }
            args.remove(0)
        }
        Some(name) => name.into(),
    };
    match applet.to_str().unwrap_or_default() {
        "runtime" => runtime::run("", &args),
        "hook" | "gpu-container-hook" | "nvidia-cdi-hook" => hook::run(args),
        "prestart" => hook::prestart::run(&[OsString::from("prestart")]),
        "nvidia-ctk" => nvidia_ctk::run(&args),
        "nvidia-container-runtime-hook" | "nvidia-container-toolkit" => hook::prestart::run(&args),
        "cli" => cli::run("gpu-container-cli", &args),
        name @ ("gpu-container-cli" | "nvidia-container-cli") => cli::run(name, &args),
        "refresh" => refresh::run(&args),
        "probe" | "gpu-container-probe" => probe::run(&args),
        // After the hook, whose name begins like a runtime's.
        name if runtime::is_name(name) => runtime::run(name, &args),
        "--version" => {
            log::tell(concat!("gpu-container ", env!("CARGO_PKG_VERSION")));
            ExitCode::SUCCESS
        }
        "--help" | "-h" => {
            log::tell(USAGE);
            ExitCode::SUCCESS
        }
        other => {
            log::say(&format!(
                "gpu-container: no program is called {other:?}\n\n{USAGE}"
            ));
            ExitCode::from(4)
        }
    }
}
