//! Finds a process's cgroup directory from the texts of cgroup(5) and mountinfo(5).

use std::path::{Component, Path, PathBuf};

/// The mounts in a mountinfo(5) text: (root within the file system, mount point, type, super options).
pub(super) fn cgroup_mounts(mountinfo: &str) -> impl Iterator<Item = (&str, &str, &str, &str)> {
    mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, _, options) = (after.next()?, after.next()?, after.next()?);
        Some((root, point, kind, options))
    })
}

/// The directory of the cgroup with this path below a cgroup mount. `None` for the mount's root
/// and anything above it, because their rules apply to more than the container.
///
/// Both paths are relative to our cgroup namespace, whichever one the container has. They begin with `..` if they are
/// outside it (`cgroup_namespaces(7)`).
pub(super) fn below(root: &str, point: &str, cgroup: &str) -> Option<PathBuf> {
    let inner = Path::new(cgroup).strip_prefix(root).ok()?;
    let is_plain = inner
        .components()
        .all(|c| matches!(c, Component::Normal(_)));
    (is_plain && inner != Path::new("")).then(|| Path::new(point).join(inner))
}

/// The file that lists the processes of a cgroup.
pub(super) const PROCESSES: &str = "cgroup.procs";

/// This cgroup's directory and its ancestors, up to where the hierarchy is mounted.
pub(super) fn cgroups_upward(dir: &Path) -> impl Iterator<Item = &Path> {
    dir.ancestors()
        .take_while(|dir| dir.join(PROCESSES).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cgroup_below_the_mounts_root_is_accepted() {
        assert_eq!(below("/", "/c", "/docker/x"), Some("/c/docker/x".into()));
        assert_eq!(below("/docker", "/c", "/docker/x"), Some("/c/x".into()));
        // The mount was made outside our cgroup namespace, and the container is our sibling.
        assert_eq!(below("/..", "/c", "/../x/y"), Some("/c/x/y".into()));
        for (root, cgroup) in [
            ("/..", "/"),
            ("/..", "/../../x"),
            ("/", "/../x"),
            ("/docker/1", "/docker/12/x"),
            ("/", "/"),
            ("/a", "/a"),
            ("/", "/../x"),
            ("/", "/a/../.."),
            ("/a", "/b"),
        ] {
            assert_eq!(below(root, "/c", cgroup), None, "{root} {cgroup}");
        }
    }
}
