//! Plans edits, and applies them to an OCI config or to an existing container.

use std::ffi::c_char;
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use gpu_inject::oci::NodeForm;
use gpu_inject::{Edits, live, oci};
use nix::errno::Errno;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use serde_json::Value;

use super::context::{Context, FailureText, call, dropped, object, to_caller, why};
use super::inventory::HostInventory;
use super::request::ContainerRequest;
use super::text::{owned, path, text};
use crate::GpuHost;

/// Everything that one container gets.
pub struct ContainerAdditions {
    edits: Edits,
}

/// Flags for `gpc_inject`, to be added up.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum InjectFlag {
    /// Do not change the device cgroup.
    NoCgroups = 1,
    /// Mount no device nodes, because the caller has made them.
    NoDevbind = 2,
}

/// What a container with that request gets on that host. NULL on failure, such as a device
/// that is not there.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_plan(
    context: *mut Context,
    inventory: *const HostInventory,
    request: *const ContainerRequest,
) -> *mut ContainerAdditions {
    call(context, std::ptr::null_mut(), |context| {
        // SAFETY: from this library.
        let inventory = unsafe { object(inventory, "inventory")? };
        // SAFETY: from this library.
        let request = unsafe { object(request, "request")? };
        let host = GpuHost::of(inventory.inventory.clone(), context.policy()?);
        let edits = host.plan(&request.request).map_err(why)?;
        Ok(to_caller(ContainerAdditions { edits }))
    })
}

/// Ends a plan.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_edits_free(edits: *mut ContainerAdditions) {
    // SAFETY: from this library.
    unsafe { dropped(edits) }
}

/// The plan as CDI says it, a `containerEdits` in JSON, for `gpc_string_free`. NULL on
/// failure.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_edits_to_cdi(
    context: *mut Context,
    edits: *const ContainerAdditions,
) -> *mut c_char {
    call(context, std::ptr::null_mut(), |context| {
        // SAFETY: from this library.
        let edits = unsafe { object(edits, "edits")? };
        let edits = oci::to_cdi(&edits.edits, &context.hook, NodeForm::Numbered);
        owned(serde_json::to_string(&edits).map_err(|e| e.to_string())?)
    })
}

/// An OCI config.json with the plan carried out in it, for `gpc_string_free`. What the
/// config has besides stays. NULL on failure.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_edits_apply(
    context: *mut Context,
    edits: *const ContainerAdditions,
    config: *const c_char,
) -> *mut c_char {
    call(context, std::ptr::null_mut(), |context| {
        // SAFETY: from this library.
        let edits = unsafe { object(edits, "edits")? };
        // SAFETY: the caller's text.
        let config = unsafe { text(config, "config")? };
        let mut config: Value =
            serde_json::from_str(config).map_err(|e| format!("not a config: {e}"))?;
        oci::apply_to_value(&mut config, &edits.edits, &context.hook).map_err(why)?;
        owned(config.to_string())
    })
}

/// Carries the plan out in a container that exists and has not started: `pid` is a process
/// in its namespaces by its number in the caller's pid namespace, `rootfs` its root file system as
/// its mount namespace sees it, which must not be the caller's; `flags` a sum of `gpc_inject_flag`. A child of ours enters the namespaces and is waited for, so the
/// calling process stays where it is, whatever threads it has. After a failure no mount is
/// left. 0 or -1.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_inject(
    context: *mut Context,
    edits: *const ContainerAdditions,
    pid: i32,
    rootfs: *const c_char,
    flags: u32,
) -> i32 {
    call(context, -1, |_| {
        // Opened before the child is made, which may be in another pid namespace (pid_for_children).
        let process = live::Pidfd::open(pid).map_err(why)?;
        // SAFETY: as for `inject`.
        unsafe { inject(edits, &process, rootfs, flags) }
    })
}

/// The same for a process by its `pidfd_open(2)` descriptor, which stays the caller's: no
/// other process that gets its number is taken for it. 0 or -1.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_inject_pidfd(
    context: *mut Context,
    edits: *const ContainerAdditions,
    pidfd: i32,
    rootfs: *const c_char,
    flags: u32,
) -> i32 {
    call(context, -1, |_| {
        let process = live::Pidfd::inherited(pidfd).map_err(why)?;
        // SAFETY: as for `inject`.
        unsafe { inject(edits, &process, rootfs, flags) }
    })
}

/// # Safety
/// As for [`object`] and [`path`].
unsafe fn inject(
    edits: *const ContainerAdditions,
    process: &live::Pidfd,
    rootfs: *const c_char,
    flags: u32,
) -> Result<i32, FailureText> {
    // SAFETY: from this library.
    let edits = unsafe { object(edits, "edits")? };
    // SAFETY: the caller's text.
    let rootfs = unsafe { path(rootfs, "rootfs")? };
    if !crate::can_be_rootfs(&rootfs) {
        return Err(format!("{}: our own root", rootfs.display()));
    }
    // An unknown flag may be one of a later library, so ignoring it could do what the caller does not want.
    let known = InjectFlag::NoCgroups as u32 | InjectFlag::NoDevbind as u32;
    if flags & !known != 0 {
        return Err(format!(
            "flags {flags:#x}: this library knows {known:#x} alone"
        ));
    }
    // The child has this thread's namespaces and only one thread.
    in_child(|| {
        let mut target = live::Target::of_process(process, rootfs).map_err(why)?;
        target.no_cgroups = flags & InjectFlag::NoCgroups as u32 != 0;
        target.no_devbind = flags & InjectFlag::NoDevbind as u32 != 0;
        if !target.no_cgroups {
            target.systemd = live::SystemdManager::connect();
        }
        live::inject(&target, &edits.edits).map(drop).map_err(why)
    })?;
    Ok(0)
}

/// The child's answer for success.
const DONE: u8 = b'+';

/// Runs `work` in a child process. The child reports the result by a pipe, because the caller's
/// SIGCHLD handler may reap it before us, and then the exit code would be lost.
fn in_child(work: impl FnOnce() -> Result<(), FailureText>) -> Result<(), FailureText> {
    let failed = |what: &str, e: io::Error| format!("{what}: {e}");
    let (mut reader, mut writer) = io::pipe().map_err(|e| failed("pipe", e))?;
    // SAFETY: of state shared with other threads the child uses only the allocator, whose locks glibc
    // resets in a child. It ends with _exit, so no code of the caller runs in it.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(failed("fork", io::Error::last_os_error()));
    }
    if child == 0 {
        let result = catch_unwind(AssertUnwindSafe(work));
        let answer = match result {
            Ok(Ok(())) => vec![DONE],
            Ok(Err(why)) => why.into_bytes(),
            Err(_) => b"a fault of the library".to_vec(),
        };
        let _ = writer.write_all(&answer);
        // SAFETY: _exit ends the child at once, without running handlers of the caller.
        unsafe { libc::_exit(0) }
    }
    drop(writer);
    let mut answer = Vec::new();
    let read = reader.read_to_end(&mut answer);
    while waitpid(Pid::from_raw(child), None) == Err(Errno::EINTR) {}
    read.map_err(|e| failed("pipe", e))?;
    match answer.as_slice() {
        [DONE] => Ok(()),
        [] => Err("the child that enters the container was killed".into()),
        why => Err(String::from_utf8_lossy(why).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_childs_result_or_its_absence_is_reported() {
        assert_eq!(in_child(|| Ok(())), Ok(()));
        assert_eq!(in_child(|| Err("why".into())), Err("why".into()));
        let killed = in_child(|| {
            // SAFETY: ends the child without an answer.
            unsafe { libc::_exit(1) }
        });
        assert!(killed.unwrap_err().contains("killed"));
    }
}
