//! One static binary for everything at a container's start: which program it is, its
//! name says, or the first argument where the name is `gpu-container`.
#![deny(unsafe_code)]
#![cfg_attr(not(test), no_main)]
#![cfg_attr(test, allow(dead_code, reason = "the tests have a main of their own"))]

mod bundle;
mod cli;
mod confine;
mod exit;
mod hook;
mod input;
mod log;
mod nvidia_ctk;
mod prestart;
mod probe;
mod refresh;
mod runtime;
mod start;

#[cfg(not(target_env = "musl"))]
use std::alloc::System;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use exit::ExitCode;
use start::OrEnd;

/// musl's own asks the kernel for every larger piece and gives it back at once: half of the
/// shim's system calls.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: OrEnd<dlmalloc::GlobalDlmalloc> = OrEnd(dlmalloc::GlobalDlmalloc);
#[cfg(not(target_env = "musl"))]
#[global_allocator]
static ALLOCATOR: OrEnd<System> = OrEnd(System);

const USAGE: &str = "\
gpu-container: GPUs for containers. Started by container engines, not by hand.

  gpu-container runtime ARGS…     OCI runtime: edits config.json, then runs runc or crun
  gpu-container hook cdi …        the hook of our CDI spec
  gpu-container prestart          the hook of `docker run --gpus`
  gpu-container cli …             info, list and configure, as nvidia-container-cli has them
  gpu-container refresh           the CDI spec and device nodes, at boot and when GPUs change
  gpu-container probe             what a container sees of GPUs, as JSON

`gpusetup` sets engines up to start it.";

/// Runs as the program of that name.
fn run(name: &OsStr, mut args: Vec<OsString>) -> ExitCode {
    let name = Path::new(name).file_name().unwrap_or_default();
    let applet = match name.to_str() {
        // Started as a hook by the link's target instead of the link's name.
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
        "hook" | "gpu-container-hook" | "nvidia-cdi-hook" => hook::run(&args),
        "prestart" => prestart::run(&[OsString::from("prestart")]),
        "nvidia-ctk" => nvidia_ctk::run(&args),
        "nvidia-container-runtime-hook" | "nvidia-container-toolkit" => prestart::run(&args),
        "cli" => cli::run("gpu-container-cli", &args),
        name @ ("gpu-container-cli" | "nvidia-container-cli") => cli::run(name, &args),
        "refresh" => refresh::run(&args),
        "probe" | "gpu-container-probe" => probe::run(&args),
        // After the hook, whose name begins like one.
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
