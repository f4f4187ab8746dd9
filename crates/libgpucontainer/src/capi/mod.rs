//! The C library: `libgpucontainer.so.1` and `gpucontainer.h`.
//!
//! Names and types are our own, not those of libnvidia-container's `nvc.h`. No program except
//! libnvidia-container itself is known to link that library; others run its command. Also, its
//! functions refer to a driver process that does not exist here.
//!
//! Conventions for all functions:
//! - A function that can fail has a context as its first argument and returns NULL or -1 on failure.
//!   [`gpc_error`] then returns the reason, until the next call with that context.
//! - A null pointer where a value is required is a failure. With a null context there is no reason to
//!   read. Freeing null does nothing.
//! - A `char *` that is returned belongs to the caller and must be freed with [`gpc_string_free`]. A
//!   `const char *` lives as long as the object it comes from.
//! - Strings are UTF-8 and end with a NUL.
//! - An object must be used by only one thread at a time. Different objects are independent.
//! - A panic never leaves the library; it becomes a failure.
#![allow(unsafe_code, reason = "the interface to C")]
#![allow(
    clippy::missing_safety_doc,
    reason = "the conventions above are the safety contract of all functions"
)]

mod context;
mod edits;
mod inventory;
mod request;
mod text;

use std::ffi::{CStr, CString, c_char};
use std::path::PathBuf;

pub use context::Context;
pub use edits::*;
pub use inventory::*;
pub use request::*;

use context::{call, dropped, to_caller};
use text::path;

/// The library's version, such as `0.1.0`. Lives as long as the program.
// SAFETY: no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub extern "C" fn gpc_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => c"",
        };
    VERSION.as_ptr()
}

/// A new context for the running host; `gpc_context_free` ends it.
// SAFETY: no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub extern "C" fn gpc_context_new() -> *mut Context {
    to_caller(Context::new())
}

/// Ends a context. Objects made with it live on.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_context_free(context: *mut Context) {
    // SAFETY: from gpc_context_new.
    unsafe { dropped(context) }
}

/// Why the last call with this context failed; empty where it did not. Lives until the next
/// call with it.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_error(context: *const Context) -> *const c_char {
    // SAFETY: a context is null or from gpc_context_new and not freed.
    unsafe { context.as_ref() }.map_or(c"no context".as_ptr(), |c| c.error.as_ptr())
}

/// Frees a text that this library returned as `char *`.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_string_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: the string is from `owned`.
        drop(unsafe { CString::from_raw(text) });
    }
}

/// Looks at the tree below `root` instead of `/`. 0 or -1.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_set_root(context: *mut Context, root: *const c_char) -> i32 {
    // SAFETY: as for `call` and `path`.
    unsafe { set(context, root, "root", |c, p| c.options.root = p) }
}

/// Where in that tree the driver's user space lives, such as `/run/nvidia/driver`. 0 or -1.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_set_driver_root(context: *mut Context, root: *const c_char) -> i32 {
    // SAFETY: as for `call` and `path`.
    unsafe {
        set(context, root, "root", |c, p| {
            c.options.driver_root = Some(p);
        })
    }
}

/// The policy's file instead of `/etc/nvidia-container-runtime/config.toml`. 0 or -1.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_set_config(context: *mut Context, file: *const c_char) -> i32 {
    // SAFETY: as for `call` and `path`.
    unsafe { set(context, file, "file", |c, p| c.options.config = Some(p)) }
}

/// Our hook's program on the host, instead of `/usr/bin/gpu-container-hook`. 0 or -1.
// SAFETY: callers keep the conventions of `capi`; no other library has a symbol of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gpc_set_hook(context: *mut Context, program: *const c_char) -> i32 {
    // SAFETY: as for `call` and `path`.
    unsafe { set(context, program, "program", |c, p| c.hook = p) }
}

/// # Safety
/// As for [`call`] and [`path`].
unsafe fn set(
    context: *mut Context,
    value: *const c_char,
    name: &str,
    store: impl FnOnce(&mut Context, PathBuf),
) -> i32 {
    // SAFETY: the caller passes null or a NUL-terminated string.
    let path = call(context, None, |_| unsafe { path(value, name) }.map(Some));
    // SAFETY: a context is null or from gpc_context_new, not freed, and not in use by another thread.
    match (path, unsafe { context.as_mut() }) {
        (Some(path), Some(context)) => {
            store(context, path);
            0
        }
        _ => -1,
    }
}

#[cfg(test)]
mod tests {
    use super::context::FailureText;
    use super::*;

    fn error(context: *const Context) -> String {
        // SAFETY: the test's own context.
        let text = unsafe { CStr::from_ptr(gpc_error(context)) };
        text.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_becomes_a_failure() {
        let context = gpc_context_new();
        let answer = call(context, -1, |_| -> Result<i32, FailureText> {
            panic!("odd")
        });
        assert_eq!(
            (answer, error(context).as_str()),
            (-1, "a fault of the library: odd")
        );
        assert_eq!(call(context, -1, |_| Ok(0)), 0);
        assert_eq!(error(context), "");
        // SAFETY: it is freed once.
        unsafe { gpc_context_free(context) };
    }

    #[test]
    fn null_pointers_are_failures() {
        let context = gpc_context_new();
        // SAFETY: null is allowed everywhere.
        unsafe {
            assert_eq!(gpc_set_root(context, std::ptr::null()), -1);
            assert_eq!(error(context), "root is null");
            assert_eq!(gpc_set_root(std::ptr::null_mut(), c"/".as_ptr()), -1);
            assert_eq!(error(std::ptr::null()), "no context");
            gpc_string_free(std::ptr::null_mut());
            gpc_context_free(std::ptr::null_mut());
            gpc_context_free(context);
        }
    }
}
