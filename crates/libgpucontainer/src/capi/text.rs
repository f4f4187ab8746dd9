//! Strings from C and for C.

use std::ffi::{CStr, CString, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::context::FailureText;

/// Reads a UTF-8 string.
///
/// # Safety
/// `from` is null, or a NUL-terminated string that does not change during the call.
pub(super) unsafe fn text<'a>(from: *const c_char, name: &str) -> Result<&'a str, FailureText> {
    // SAFETY: as above.
    let bytes = unsafe { bytes(from, name)? };
    std::str::from_utf8(bytes).map_err(|_| format!("{name} is not UTF-8"))
}

/// Reads an absolute path.
///
/// # Safety
/// As for [`text`].
pub(super) unsafe fn path(from: *const c_char, name: &str) -> Result<PathBuf, FailureText> {
    // SAFETY: as above.
    let bytes = unsafe { bytes(from, name)? };
    let path = PathBuf::from(OsStr::from_bytes(bytes));
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(format!("{name} {}: not an absolute path", path.display()))
    }
}

/// # Safety
/// As for [`text`]; the bytes are not used after the caller's string is gone.
unsafe fn bytes<'a>(from: *const c_char, name: &str) -> Result<&'a [u8], FailureText> {
    if from.is_null() {
        return Err(format!("{name} is null"));
    }
    // SAFETY: it is not null, so it is a NUL-terminated string.
    Ok(unsafe { CStr::from_ptr(from) }.to_bytes())
}

/// A string that the caller has to free.
pub(super) fn owned(text: String) -> Result<*mut c_char, FailureText> {
    let text = CString::new(text).map_err(|_| "the text has a NUL in it".to_owned())?;
    Ok(text.into_raw())
}

/// A string that is stored with its object. `None` if it contains a NUL.
pub(super) fn c_string(text: impl AsRef<OsStr>) -> Option<CString> {
    CString::new(text.as_ref().as_bytes()).ok()
}

/// A string that stays owned by its object; null for `None`.
pub(super) fn lent(text: Option<&CString>) -> *const c_char {
    text.map_or(std::ptr::null(), |t| t.as_ptr())
}
