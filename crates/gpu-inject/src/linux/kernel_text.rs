//! Converts the text of a kernel file such as mountinfo to UTF-8.

/// The text of a kernel file, with bytes that are not UTF-8 replaced. Paths in such a file can contain any bytes, and
/// one mount with a strange name must not keep every container from starting. Replacing bytes is safe because only
/// the paths of cgroups matter here.
pub(crate) fn kernel_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}
