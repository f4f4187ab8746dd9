//! Root file systems of containers in a mountinfo(5) text.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A mount on which a container's own /proc and /dev are mounted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MountRoot {
    /// Its mount ID.
    pub(super) mount: u64,
    pub(super) path: PathBuf,
}

struct MountinfoLine<'a> {
    id: u64,
    parent: u64,
    /// Escaped, as the kernel writes it.
    point: &'a [u8],
    kind: &'a [u8],
}

/// All such mounts except `/` and those within another: mounts inside a volume do not make it the root.
pub(super) fn roots(text: &[u8]) -> Vec<MountRoot> {
    let mounts: Vec<MountinfoLine<'_>> = text.split(|b| *b == b'\n').filter_map(read).collect();
    let by_id: HashMap<u64, &MountinfoLine<'_>> = mounts.iter().map(|m| (m.id, m)).collect();
    // Compared by the parent's ID, not by path alone: a mount that is covered by another of the same path is no
    // longer the root.
    let on = |child: &MountinfoLine<'_>, name: &[u8]| {
        let parent = by_id.get(&child.parent)?;
        let rest = child.point.strip_prefix(parent.point)?;
        (parent.point != b"/" && rest == name).then_some(parent.id)
    };
    let with_dev: HashSet<u64> = mounts.iter().filter_map(|m| on(m, b"/dev")).collect();
    let procs = mounts.iter().filter(|m| m.kind == b"proc");
    let root_ids: HashSet<u64> = procs
        .filter_map(|m| on(m, b"/proc"))
        .filter(|id| with_dev.contains(id))
        .collect();
    let mut roots: Vec<MountRoot> = root_ids
        .into_iter()
        .map(|id| MountRoot {
            mount: id,
            path: unescaped(by_id[&id].point),
        })
        .collect();
    roots.sort_by(|a, b| a.path.cmp(&b.path));
    let paths: HashSet<PathBuf> = roots.iter().map(|r| r.path.clone()).collect();
    roots.retain(|root| {
        let mut above = root.path.ancestors().skip(1);
        !above.any(|dir| paths.contains(Path::new(dir)))
    });
    roots
}

fn read(line: &[u8]) -> Option<MountinfoLine<'_>> {
    let mut fields = line.split(|b| *b == b' ');
    let number = |field: Option<&[u8]>| std::str::from_utf8(field?).ok()?.parse().ok();
    let id = number(fields.next())?;
    let parent = number(fields.next())?;
    let point = fields.nth(2)?;
    // The optional fields end with a dash.
    let kind = fields.skip_while(|f| *f != b"-").nth(1)?;
    Some(MountinfoLine {
        id,
        parent,
        point,
        kind,
    })
}

/// Space, tab, line break and backslash are written as `\` and three octal digits.
fn unescaped(path: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let octal = digits.and_then(|d| std::str::from_utf8(d).ok());
        if let Some(byte) = octal.and_then(|d| u8::from_str_radix(d, 8).ok()) {
            bytes.push(byte);
            rest = &after[3..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    const HOST: &str = "\
21 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
22 21 0:5 / /proc rw - proc proc rw
23 21 0:6 / /dev rw shared:2 - devtmpfs udev rw
";

    /// As runc 1.1 makes it: the engine's overlay, mounted on itself.
    const CONTAINER: &str = "\
60 21 0:40 / /var/lib/x/merged rw shared:9 - overlay overlay rw
65 60 0:40 / /var/lib/x/merged rw master:9 - overlay overlay rw
66 65 0:41 / /var/lib/x/merged/proc rw - proc proc rw
67 65 0:42 / /var/lib/x/merged/dev rw - tmpfs tmpfs rw
";

    fn roots_of(more: &[&str]) -> Vec<(u64, String)> {
        let text = HOST.to_owned() + &more.concat();
        let roots = roots(text.as_bytes()).into_iter();
        roots
            .map(|r| (r.mount, r.path.to_string_lossy().into_owned()))
            .collect()
    }

    fn merged() -> (u64, String) {
        (65, "/var/lib/x/merged".to_owned())
    }

    #[test]
    fn a_root_has_its_own_proc_and_dev() {
        assert_eq!(roots_of(&[]), []);
        assert_eq!(roots_of(&[CONTAINER]), [merged()]);
        let without_dev = CONTAINER.lines().take(3).collect::<Vec<_>>().join("\n");
        assert_eq!(roots_of(&[&without_dev]), []);
    }

    #[test]
    fn a_root_within_a_container_is_not_another_container() {
        // A volume that is a tree with mounts of its own, or a name that looks like a root.
        let volume = "\
70 65 8:1 /srv /var/lib/x/merged/mnt rw - ext4 /dev/sda1 rw
71 70 0:5 / /var/lib/x/merged/mnt/proc rw - proc proc rw
72 70 0:6 / /var/lib/x/merged/mnt/dev rw - devtmpfs udev rw
73 65 8:1 /x /var/lib/x/merged/a\\040-\\040proc rw - ext4 /dev/sda1 rw
74 73 8:1 /x /var/lib/x/merged/a\\040-\\040proc/proc rw - ext4 /dev/sda1 rw
75 73 8:1 /x /var/lib/x/merged/a\\040-\\040proc/dev rw - ext4 /dev/sda1 rw
";
        assert_eq!(roots_of(&[CONTAINER, volume]), [merged()]);
    }

    #[test]
    fn a_driver_container_of_the_host_is_listed_as_well() {
        let driver = "\
80 21 0:50 / /run/nvidia/driver rw - overlay overlay rw
81 80 0:5 / /run/nvidia/driver/proc rw - proc proc rw
82 80 0:6 / /run/nvidia/driver/dev rw - devtmpfs udev rw
";
        let wanted = [(80, "/run/nvidia/driver".to_owned()), merged()];
        assert_eq!(roots_of(&[driver, CONTAINER]), wanted);
    }

    #[test]
    fn escaped_paths_are_decoded() {
        let text = CONTAINER.replace("/var/lib/x/merged", "/srv/a\\040b\\134c\\012d");
        assert_eq!(roots_of(&[&text]), [(65, "/srv/a b\\c\nd".to_owned())]);
        assert_eq!(
            unescaped(b"/a\\x\\04\\777\\").as_os_str().as_bytes(),
            b"/a\\x\\04\\777\\"
        );
    }

    #[test]
    fn malformed_lines_do_not_panic() {
        for odd in [
            "",
            "\n\n",
            "1 2",
            "x y 0:1 / /p rw - proc proc rw",
            "1 1 0:1 / /a/proc rw - proc",
        ] {
            assert_eq!(roots_of(&[odd]), [], "{odd:?}");
        }
    }
}
