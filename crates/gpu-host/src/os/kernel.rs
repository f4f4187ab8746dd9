//! The running kernel.

use nix::errno::Errno;
use nix::fcntl::{self, AT_FDCWD, OFlag, OpenHow, ResolveFlag};

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

/// Whether this kernel can keep a path below a directory (openat2(2), Linux 5.6, and in the kernels
/// of distributions that have taken it back): what is written into a container depends on it.
pub fn resolves_in_root() -> bool {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT);
    !matches!(fcntl::openat2(AT_FDCWD, ".", how), Err(Errno::ENOSYS))
}
