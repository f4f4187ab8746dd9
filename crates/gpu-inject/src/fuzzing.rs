//! Ways in for testenv/fuzz, to parsers that are nobody else's business.

use std::path::PathBuf;

/// Where a container's device cgroup is, of either kind, from its cgroup(5) file and our
/// mountinfo(5).
pub fn cgroups(cgroup: &str, mountinfo: &str) -> [Option<PathBuf>; 2] {
    crate::live::cgroups(cgroup, mountinfo)
}
