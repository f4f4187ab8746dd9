//! A container's request, read from its environment or config, or built step by step.

use std::ffi::c_char;

use gpu_host::{Capabilities, Capability};
use gpu_inject::oci::ContainerView;
use gpu_inject::request::{AllowedName, Imex, Request, Visible};
use serde_json::{Value, json};

use super::context::{Context, FailureText, call, dropped, object, to_caller, why};
use super::text::text;

/// A container's request.
pub struct ContainerRequest {
    pub(super) request: Request,
}

/// Options for `gpc_request_set`.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum RequestOption {
    /// Partition the GPUs.
    MigConfig = 0,
    /// Monitor all slices.
    MigMonitor = 1,
}

/// A request for nothing but the driver's control nodes; add to it what is wanted. NULL on
/// failure.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_request_new(context: *mut Context) -> *mut ContainerRequest {
    call(context, std::ptr::null_mut(), |_| {
        let request = Request {
            visible: Visible::DriverOnly,
            ..Request::default()
        };
        Ok(to_caller(ContainerRequest { request }))
    })
}

/// What a container of that environment asks for: a list of `NAME=value` that ends with
/// NULL, as `environ`. It counts as unprivileged. NULL on failure.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_request_from_env(
    context: *mut Context,
    environment: *const *const c_char,
) -> *mut ContainerRequest {
    call(context, std::ptr::null_mut(), |context| {
        if environment.is_null() {
            return Err("environment is null".into());
        }
        let mut variables = Vec::new();
        for n in 0.. {
            // SAFETY: the list ends with NULL, which has not been reached yet.
            let variable = unsafe { *environment.add(n) };
            if variable.is_null() {
                break;
            }
            // SAFETY: it is not null, so it is a NUL-terminated string of the caller.
            variables.push(unsafe { text(variable, "a variable")? });
        }
        read(context, &json!({"process": {"env": variables}}))
    })
}

/// What a container of that OCI config asks for, by environment, mounts and annotations, as
/// far as the policy lets it. NULL on failure.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_request_from_config(
    context: *mut Context,
    config: *const c_char,
) -> *mut ContainerRequest {
    call(context, std::ptr::null_mut(), |context| {
        // SAFETY: the caller's text.
        let config = unsafe { text(config, "config")? };
        let config = serde_json::from_str(config).map_err(|e| format!("not a config: {e}"))?;
        read(context, &config)
    })
}

fn read(context: &Context, config: &Value) -> Result<*mut ContainerRequest, FailureText> {
    let request = Request::read(ContainerView::new(config), &context.policy()?);
    let request = request.map_err(why)?;
    Ok(to_caller(ContainerRequest { request }))
}

/// Ends a request.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_request_free(request: *mut ContainerRequest) {
    // SAFETY: from this library.
    unsafe { dropped(request) }
}

/// 1 where it asks for anything, else 0.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_request_is_some(request: *const ContainerRequest) -> i32 {
    // SAFETY: null or from this library.
    unsafe { request.as_ref() }.map_or(0, |r| r.request.is_some().into())
}

/// Adds a device: `all`, an index, a UUID, `gpu:slice`. 0 or -1.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_request_add_device(
    context: *mut Context,
    request: *mut ContainerRequest,
    device: *const c_char,
) -> i32 {
    // SAFETY: as for `add`.
    unsafe {
        add(context, request, device, |request, device| {
            match &mut request.visible {
                Visible::All => {}
                _ if device == "all" => request.visible = Visible::All,
                Visible::Listed(list) => list.push(AllowedName::by_caller(device)),
                other => *other = Visible::Listed(vec![AllowedName::by_caller(device)]),
            }
            Ok(())
        })
    }
}

/// Adds a word of `NVIDIA_DRIVER_CAPABILITIES`. 0 or -1.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_request_add_capability(
    context: *mut Context,
    request: *mut ContainerRequest,
    word: *const c_char,
) -> i32 {
    // SAFETY: as for `add`.
    unsafe {
        add(context, request, word, |request, word| {
            if word == "all" {
                request.capabilities = Capabilities::ALL;
                return Ok(());
            }
            let unknown = || why(gpu_inject::Error::Capability(word.into()));
            let capability = Capability::from_word(word).ok_or_else(unknown)?;
            request.capabilities = request.capabilities.with(capability);
            Ok(())
        })
    }
}

/// Adds a requirement, as `NVIDIA_REQUIRE_CUDA` would say it: `cuda>=12.4`. 0 or -1.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_request_add_requirement(
    context: *mut Context,
    request: *mut ContainerRequest,
    requirement: *const c_char,
) -> i32 {
    // SAFETY: as for `add`.
    unsafe {
        add(context, request, requirement, |request, requirement| {
            request.requirements.push(requirement.to_owned());
            Ok(())
        })
    }
}

/// Adds an IMEX channel by its number, or `all`. 0 or -1.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_request_add_imex_channel(
    context: *mut Context,
    request: *mut ContainerRequest,
    channel: *const c_char,
) -> i32 {
    // SAFETY: as for `add`.
    unsafe {
        add(context, request, channel, |request, channel| {
            if channel == "all" {
                request.imex = Imex::All;
                return Ok(());
            }
            let number = channel.parse();
            let number = number.map_err(|_| format!("{channel}: not an IMEX channel"))?;
            match &mut request.imex {
                Imex::All => {}
                Imex::Listed(list) => list.push(number),
                none @ Imex::None => *none = Imex::Listed(vec![number]),
            }
            Ok(())
        })
    }
}

/// Turns an option on (not 0) or off (0), one of `gpc_request_option`. 0 or -1.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_request_set(
    context: *mut Context,
    request: *mut ContainerRequest,
    option: u32,
    on: i32,
) -> i32 {
    call(context, -1, |_| {
        // SAFETY: null or from this library, and not in use by another thread.
        let request = unsafe { request.as_mut() }.ok_or("request is null")?;
        match option {
            0 => request.request.mig_config = on != 0,
            1 => request.request.mig_monitor = on != 0,
            _ => return Err(format!("no option {option}")),
        }
        Ok(0)
    })
}

/// # Safety
/// As for [`call`], [`object`] and [`text`]; the request is not in use by another thread.
unsafe fn add(
    context: *mut Context,
    request: *mut ContainerRequest,
    word: *const c_char,
    store: impl FnOnce(&mut Request, &str) -> Result<(), FailureText>,
) -> i32 {
    call(context, -1, |_| {
        // SAFETY: as above.
        let word = unsafe { text(word, "text")? };
        // SAFETY: as above.
        unsafe { object(request, "request")? };
        // SAFETY: as above, and not null.
        let request = unsafe { &mut *request };
        store(&mut request.request, word).map(|()| 0)
    })
}
