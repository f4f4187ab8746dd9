//! Facts about the running kernel.

use nix::errno::Errno;
use nix::fcntl::{self, AT_FDCWD, OFlag, OpenHow, ResolveFlag};

use crate::root::Root;

/// The kernel release, such as `6.12.9-amd64`; `None` in a tree that is not a running system.
pub fn release(root: &Root) -> Option<String> {
    let text = root.read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(text.trim().to_owned()).filter(|r| !r.is_empty())
}

/// Whether the module is loaded or built in.
pub fn has_module(root: &Root, name: &str) -> bool {
    root.exists(format!("/sys/module/{name}"))
}

/// Whether this kernel can confine path resolution to a directory: openat2(2), Linux 5.6, also
/// backported by some distributions. Writing into a container depends on it.
pub fn resolves_in_root() -> bool {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT);
    !matches!(fcntl::openat2(AT_FDCWD, ".", how), Err(Errno::ENOSYS))
}
