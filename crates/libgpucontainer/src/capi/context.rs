//! A context, what a call does with it, and objects on their way to C and back.

use std::any::Any;
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use crate::{Error, Look};

/// Where to look, and why the last call failed.
pub struct Context {
    pub(super) look: Look,
    pub(super) hook: PathBuf,
    pub(super) error: CString,
}

/// Why a call failed.
pub(super) type Failure = String;

impl Context {
    pub(super) fn new() -> Self {
        Self {
            look: Look::default(),
            hook: gpu_inject::generate::HOOK_PATH.into(),
            error: CString::default(),
        }
    }

    pub(super) fn policy(&self) -> Result<gpu_inject::policy::Policy, Failure> {
        crate::policy(&self.look.root, self.look.config.as_deref()).map_err(why)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn why(error: Error) -> Failure {
    error.to_string()
}

/// Does a call's work; failures and panics go into the context, and `failed` is the answer.
pub(super) fn call<T>(
    context: *mut Context,
    failed: T,
    work: impl FnOnce(&Context) -> Result<T, Failure>,
) -> T {
    // SAFETY: a context is null or from gpc_context_new, not freed, and no other thread's now.
    let Some(context) = (unsafe { context.as_mut() }) else {
        return failed;
    };
    context.error = CString::default();
    let done = catch_unwind(AssertUnwindSafe(|| work(context)));
    let why = match done {
        Ok(Ok(value)) => return value,
        Ok(Err(why)) => why,
        Err(panic) => format!("a fault of the library: {}", said(panic.as_ref())),
    };
    context.error = CString::new(why.replace('\0', "?")).unwrap_or_default();
    failed
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("unknown")
}

/// The object a pointer leads to.
///
/// # Safety
/// Null, or from this library's function for that type and not freed.
pub(super) unsafe fn object<'a, T>(pointer: *const T, name: &str) -> Result<&'a T, Failure> {
    // SAFETY: as above.
    unsafe { pointer.as_ref() }.ok_or_else(|| format!("{name} is null"))
}

/// Gives an object to C.
pub(super) fn given<T>(object: T) -> *mut T {
    Box::into_raw(Box::new(object))
}

/// Takes an object back and drops it.
///
/// # Safety
/// Null, or from [`given`] and not taken back.
pub(super) unsafe fn dropped<T>(object: *mut T) {
    if !object.is_null() {
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(object) });
    }
}
