//! A table of the kernel's as text.

/// A table of the kernel's. A path in it can be any bytes, and one mount with an odd name is no reason to give nobody a
/// GPU: what is no UTF-8 is replaced, since of paths only those of cgroups count.
pub(crate) fn kernel_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}
