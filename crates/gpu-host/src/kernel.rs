//! The running kernel.

use crate::root::Root;

/// Release, such as `6.12.9-amd64`; `None` in a tree that is not running.
pub fn release(root: &Root) -> Option<String> {
    let text = root.read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(text.trim().to_owned()).filter(|r| !r.is_empty())
}

/// Whether a module of that name is loaded or built in.
pub fn has_module(root: &Root, name: &str) -> bool {
    root.exists(format!("/sys/module/{name}"))
}
