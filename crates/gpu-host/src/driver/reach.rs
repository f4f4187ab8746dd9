//! Whether users without privileges can reach an optional file.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::inventory::Need;
use crate::root::Root;

/// Permission bit: users other than owner and group may search the directory.
const SEARCH_BY_OTHERS: u32 = 0o001;

/// The [`Need`] of an optional file. A directory whose metadata cannot be read counts as closed.
pub(crate) fn need(root: &Root, host_path: &Path) -> Need {
    let is_open = |dir: &Path| {
        root.metadata(dir)
            .is_ok_and(|metadata| metadata.mode() & SEARCH_BY_OTHERS != 0)
    };
    // `/` is left out: it is open on every host, and in a test it is a private temporary directory.
    let mut parents = host_path
        .ancestors()
        .skip(1)
        .filter(|d| d.parent().is_some());
    if parents.all(is_open) {
        Need::Optional
    } else {
        Need::OptionalAndClosed
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_parent_closed_to_others_closes_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("run/daemon");
        fs::create_dir_all(&inner).unwrap();
        let root = Root::open(dir.path()).unwrap();
        let set = |path: &str, mode| {
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(dir.path().join(path), mode).unwrap();
            need(&root, Path::new("/run/daemon/socket"))
        };
        set("run", 0o755);
        assert_eq!(set("run/daemon", 0o755), Need::Optional);
        assert_eq!(set("run/daemon", 0o711), Need::Optional);
        assert_eq!(set("run/daemon", 0o750), Need::OptionalAndClosed);
        set("run/daemon", 0o755);
        assert_eq!(set("run", 0o700), Need::OptionalAndClosed);
        assert_eq!(
            need(&root, Path::new("/not/there")),
            Need::OptionalAndClosed
        );
    }
}
