//! The context of a call, error handling around a call, and passing objects to C and back.

use std::any::Any;
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use crate::{Error, HostOptions};

/// Options for all calls, and the reason why the last call failed.
pub struct Context {
    pub(super) options: HostOptions,
    pub(super) hook: PathBuf,
    pub(super) error: CString,
}

/// Why a call failed.
pub(super) type FailureText = String;

impl Context {
    pub(super) fn new() -> Self {
        Self {
            options: HostOptions::default(),
            hook: gpu_inject::generate::HOOK_PATH.into(),
            error: CString::default(),
        }
    }

    pub(super) fn policy(&self) -> Result<gpu_inject::policy::Policy, FailureText> {
        crate::policy(&self.options.root, self.options.config.as_deref()).map_err(why)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn why(error: Error) -> FailureText {
    error.to_string()
}

/// Runs the body of a call. A failure or panic is stored in the context, and `failed` is returned.
pub(super) fn call<T>(
    context: *mut Context,
    failed: T,
    work: impl FnOnce(&Context) -> Result<T, FailureText>,
) -> T {
    // SAFETY: a context is null or from gpc_context_new, not freed, and not in use by another thread.
    let Some(context) = (unsafe { context.as_mut() }) else {
        return failed;
    };
    context.error = CString::default();
    let result = catch_unwind(AssertUnwindSafe(|| work(context)));
    let why = match result {
        Ok(Ok(value)) => return value,
        Ok(Err(why)) => why,
        Err(panic) => format!("a fault of the library: {}", panic_message(panic.as_ref())),
    };
    context.error = CString::new(why.replace('\0', "?")).unwrap_or_default();
    failed
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("unknown")
}

/// The object that a pointer refers to.
///
/// # Safety
/// Null, or from this library's function for that type and not freed.
pub(super) unsafe fn object<'a, T>(pointer: *const T, name: &str) -> Result<&'a T, FailureText> {
    // SAFETY: as above.
    unsafe { pointer.as_ref() }.ok_or_else(|| format!("{name} is null"))
}

/// Passes ownership of an object to C.
pub(super) fn to_caller<T>(object: T) -> *mut T {
    Box::into_raw(Box::new(object))
}

/// Takes ownership of an object back from C and drops it.
///
/// # Safety
/// Null, or from [`given`] and not dropped before.
pub(super) unsafe fn dropped<T>(object: *mut T) {
    if !object.is_null() {
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(object) });
    }
}
