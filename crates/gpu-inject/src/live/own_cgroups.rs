//! Determines which cgroups belong to the container alone, so that changing their device rules affects no other
//! process.
//!
//! crun from 1.18 on puts the container's processes in a cgroup below the scope that systemd knows
//! (`SCOPE/container`), and the device rules on the scope.

use std::fs;
use std::path::{Path, PathBuf};

use super::cgroup_paths::PROCESSES;

/// The container's own cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnCgroups {
    /// The cgroup of its processes first, then its ancestors.
    pub(super) dirs: Vec<PathBuf>,
    /// The outermost of them, if it is a scope, which systemd may know as a unit.
    pub(super) scope: Option<String>,
}

/// Maximum number of cgroups examined below a scope.
const MAX_BELOW: usize = 64;

impl OwnCgroups {
    /// The cgroups of a container whose processes are in `leaf`. A scope above `leaf` is the container's if no other
    /// process is in it.
    pub(super) fn of(leaf: &Path) -> Self {
        let scope = leaf.ancestors().find(|dir| scope_name(dir).is_some());
        match scope {
            Some(scope) if scope == leaf || has_no_others(scope, leaf) => Self::up_to(leaf, scope),
            _ => Self {
                dirs: vec![leaf.to_owned()],
                scope: None,
            },
        }
    }

    /// The cgroups of a container whose unit is known by name: up to the cgroup of that name. `None` if no cgroup of
    /// that name is above the processes.
    pub(super) fn in_unit(leaf: &Path, unit: &str) -> Option<Self> {
        let is_unit = |dir: &&Path| dir.file_name().is_some_and(|name| name == unit);
        Some(Self::up_to(leaf, leaf.ancestors().find(is_unit)?))
    }

    fn up_to(leaf: &Path, top: &Path) -> Self {
        let dirs = leaf.ancestors().take_while(|dir| dir.starts_with(top));
        Self {
            dirs: dirs.map(Path::to_owned).collect(),
            scope: scope_name(top).map(str::to_owned),
        }
    }
}

fn scope_name(dir: &Path) -> Option<&str> {
    let name = dir.file_name()?.to_str()?;
    name.strip_suffix(".scope").is_some().then_some(name)
}

/// Whether all processes below `scope` are in `leaf` or below it. False if this cannot be determined.
fn has_no_others(scope: &Path, leaf: &Path) -> bool {
    let mut left = vec![scope.to_owned()];
    let mut visited = 0;
    while let Some(dir) = left.pop() {
        visited += 1;
        let is_empty = fs::read(dir.join(PROCESSES)).is_ok_and(|processes| processes.is_empty());
        if !is_empty || visited > MAX_BELOW {
            return false;
        }
        let Ok(entries) = fs::read_dir(&dir) else {
            return false;
        };
        let below = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        left.extend(below.map(|entry| entry.path()).filter(|dir| dir != leaf));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cgroup(dir: &Path, processes: &str) {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join(PROCESSES), processes).unwrap();
    }

    #[test]
    fn a_scope_is_the_containers_if_nobody_else_is_in_it() {
        let root = tempfile::tempdir().unwrap();
        let slice = root.path().join("machine.slice");
        let scope = slice.join("libpod-1.scope");
        let leaf = scope.join("container");
        cgroup(&slice, "");
        cgroup(&scope, "");
        cgroup(&leaf, "7\n");
        let own = OwnCgroups::of(&leaf);
        assert_eq!(own.dirs, [leaf.clone(), scope.clone()]);
        assert_eq!(own.scope.as_deref(), Some("libpod-1.scope"));
        // An empty sibling cgroup changes nothing, but a sibling with a process does.
        let beside = scope.join("beside");
        cgroup(&beside, "");
        assert_eq!(OwnCgroups::of(&leaf).dirs.len(), 2);
        cgroup(&beside, "8\n");
        let own = OwnCgroups::of(&leaf);
        assert_eq!(own.dirs, [&*leaf]);
        assert_eq!(own.scope, None);
        cgroup(&beside, "");
        cgroup(&scope, "9\n");
        assert_eq!(OwnCgroups::of(&leaf).dirs, [leaf]);
    }

    #[test]
    fn the_cgroup_of_the_processes_is_the_containers_anyway() {
        let leaf = Path::new("/sys/fs/cgroup/system.slice/docker-1.scope");
        let own = OwnCgroups::of(leaf);
        assert_eq!(own.dirs, [leaf]);
        assert_eq!(own.scope.as_deref(), Some("docker-1.scope"));
        let leaf = Path::new("/sys/fs/cgroup/docker/1");
        let own = OwnCgroups::of(leaf);
        assert_eq!(own.dirs, [leaf]);
        assert_eq!(own.scope, None);
        // systemd in a container has a scope of its own.
        let leaf = Path::new("/sys/fs/cgroup/system.slice/docker-1.scope/init.scope");
        let own = OwnCgroups::in_unit(leaf, "docker-1.scope").unwrap();
        assert_eq!(own.dirs.len(), 2);
        assert_eq!(own.scope.as_deref(), Some("docker-1.scope"));
        assert_eq!(OwnCgroups::in_unit(leaf, "docker-2.scope"), None);
    }
}
