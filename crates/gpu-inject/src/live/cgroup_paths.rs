//! Where a process's cgroup is in the file system, from what the kernel says of both.

use std::path::{Component, Path, PathBuf};

/// Mount points of a mountinfo(5) text: (root within the file system, mount point, type, options).
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

/// Where below a cgroup mount the cgroup of that path is. None for the mount's own root
/// and for what lies above it: those rules are not the container's alone.
///
/// Both paths are relative to our own cgroup namespace, whichever one the container has, and begin
/// with `..` where they lie outside of it (`cgroup_namespaces(7)`).
pub(super) fn below(root: &str, point: &str, cgroup: &str) -> Option<PathBuf> {
    let inner = Path::new(cgroup).strip_prefix(root).ok()?;
    let is_plain = inner
        .components()
        .all(|c| matches!(c, Component::Normal(_)));
    (is_plain && inner != Path::new("")).then(|| Path::new(point).join(inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cgroup_of_the_containers_own() {
        assert_eq!(below("/", "/c", "/docker/x"), Some("/c/docker/x".into()));
        assert_eq!(below("/docker", "/c", "/docker/x"), Some("/c/x".into()));
        // Mounted from outside of our cgroup namespace, and the container is beside us.
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
