//! createContainer hooks: our own, which does everything in one process, and hooks with the vendor's names, so that a
//! CDI spec made by nvidia-ctk works with this binary as its `nvidia-cdi-hook`.
//!
//! No hook starts a program, and none trusts its environment, which may be the container's.

mod confine;
mod flags;
pub(crate) mod prestart;
mod root;
mod vendor;

use std::ffi::OsString;
use std::mem::ManuallyDrop;

use gpu_inject::live::OwnMounts;
use gpu_inject::{Error, Excerpt, live, oci};

use crate::exit::ExitCode;
use crate::log;
use crate::oci_bundle::HookState;
use flags::HookInput;

/// `cdi …` is our own hook; the vendor's hooks are in [`vendor`]. An unknown hook is a warning, not a failure, as
/// with nvidia-cdi-hook: the spec may be from another version, and the container must start even so.
pub(crate) fn run(args: Vec<OsString>) -> ExitCode {
    let mounts = confine::cdi_hook();
    // Converts without copying, because a hook can have hundreds of arguments.
    let text = |arg: OsString| match arg.into_string() {
        Ok(text) => text,
        Err(odd) => odd.to_string_lossy().into_owned(),
    };
    let args = args.into_iter().map(text);
    // The vendor's global flags, without a value.
    let mut args = args.skip_while(|a| a.starts_with('-'));
    let done = match args.next() {
        Some(name) if name == "cdi" => own(args.collect(), mounts),
        Some(name) => {
            let rest: Vec<String> = args.collect();
            vendor::run(&name, &rest, mounts).unwrap_or_else(|| {
                HookState::pass_over();
                let name = Excerpt::of(&name);
                log::warning(format_args!("no hook is called {name:?}; nothing is done"));
                Ok(())
            })
        }
        None => {
            HookState::pass_over();
            log::warning("no hook is named; nothing is done");
            Ok(())
        }
    };
    if let Err(e) = done {
        log::failure(&e, None);
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// `--mount file|config|socket|proc HOST PATH… --mounted HOST PATH… --mounted=PATH… --library PATH=SONAME… --library32 PATH=SONAME… --link PATH=TARGET…
/// --link-by-node PATH=TARGET… --cuda-compat DRIVER[,CUDA] --cuda-compat-root DIR --egl-devices 0xMASK|nodes
/// --forbid-device-nodes [--rootfs PATH] [--container-spec FILE]`
fn own(args: Vec<String>, mounts: OwnMounts) -> Result<(), Error> {
    let (input, args) = HookInput::read(args)?;
    // None of these is dropped, because the process ends and dropping would close a descriptor for every mount.
    let edits = ManuallyDrop::new(oci::read_arguments(args)?);
    let rootfs = root::open(&input.state, input.rootfs.as_deref(), mounts)?;
    let rootfs = ManuallyDrop::new(rootfs.arranged(input.arrangement(&edits)));
    let done = ManuallyDrop::new(live::mount_here(&rootfs, &edits)?);
    log::notes(&rootfs.notes());
    log::debug(&done.1);
    Ok(())
}
