//! Versions of installed packages, from what package managers leave in plain text.

use crate::root::Root;

/// Version of the first of these packages that is installed, as dpkg, pacman or apk has it.
///
/// `None` where none is, and on RPM hosts: their database is binary, and nothing is run here.
pub fn version(root: &Root, names: &[&str]) -> Option<String> {
    dpkg(root, names)
        .or_else(|| pacman(root, names))
        .or_else(|| apk(root, names))
}

/// The version of the name that stands first in `names`, whatever the order of the packages.
fn first<N: AsRef<str>>(
    names: &[&str],
    installed: impl Iterator<Item = (N, String)>,
) -> Option<String> {
    installed
        .filter_map(|(name, version)| {
            let place = names.iter().position(|n| *n == name.as_ref())?;
            Some((place, version))
        })
        .min_by_key(|(place, _)| *place)
        .map(|(_, version)| version)
}

fn dpkg(root: &Root, names: &[&str]) -> Option<String> {
    let status = root.read_to_string("/var/lib/dpkg/status").ok()?;
    let installed = status.split("\n\n").filter_map(|paragraph| {
        let field = |key: &str| {
            paragraph
                .lines()
                .find_map(|l| l.strip_prefix(key)?.strip_prefix(": "))
        };
        let is_installed = field("Status")?.ends_with(" installed");
        is_installed.then_some((field("Package")?, field("Version")?.to_owned()))
    });
    first(names, installed)
}

/// A directory for each package, `NAME-VERSION-RELEASE`; neither of the last two has a dash
/// (PKGBUILD(5)).
fn pacman(root: &Root, names: &[&str]) -> Option<String> {
    let entries = root.read_dir("/var/lib/pacman/local").ok()?;
    let installed = entries.iter().filter_map(|entry| {
        let mut parts = entry.to_str()?.rsplitn(3, '-');
        let (release, version, name) = (parts.next()?, parts.next()?, parts.next()?);
        Some((name, format!("{version}-{release}")))
    });
    first(names, installed)
}

/// Paragraphs with a letter for each field; apk-tools 2 has them in /lib, 3 in /usr/lib.
fn apk(root: &Root, names: &[&str]) -> Option<String> {
    let text = ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"]
        .iter()
        .find_map(|path| root.read_to_string(path).ok())?;
    let installed = text.split("\n\n").filter_map(|paragraph| {
        let field = |key: &str| paragraph.lines().find_map(|l| l.strip_prefix(key));
        Some((field("P:")?, field("V:")?.to_owned()))
    });
    first(names, installed)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn in_tree(path: &str, text: &str, names: &[&str]) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        version(&Root::open(dir.path()).unwrap(), names)
    }

    #[test]
    fn dpkg_counts_what_is_installed() {
        let status = "Package: docker.io\nStatus: deinstall ok config-files\nVersion: 20.10\n\nPackage: docker-ce\nStatus: install ok installed\nVersion: 5:27.3.1-1\n";
        let found = |names: &[&str]| in_tree("var/lib/dpkg/status", status, names);
        assert_eq!(found(&["docker.io"]), None);
        assert_eq!(
            found(&["docker.io", "docker-ce"]).as_deref(),
            Some("5:27.3.1-1")
        );
    }

    #[test]
    fn the_first_name_counts_not_the_first_package() {
        // Debian 11 has a `docker` that is a tray for window managers.
        let status = "Package: docker\nStatus: install ok installed\nVersion: 1.5-2\n\nPackage: docker.io\nStatus: install ok installed\nVersion: 20.10.5\n";
        let found = in_tree("var/lib/dpkg/status", status, &["docker.io", "docker"]);
        assert_eq!(found.as_deref(), Some("20.10.5"));
    }

    #[test]
    fn pacman_does_not_take_a_longer_name() {
        let of = |dir: &str| in_tree(&format!("var/lib/pacman/local/{dir}/desc"), "", &["docker"]);
        assert_eq!(of("docker-1:27.3.1-1").as_deref(), Some("1:27.3.1-1"));
        assert_eq!(of("docker-buildx-0.17.1-1"), None);
        assert_eq!(of("docker"), None);
    }

    #[test]
    fn apk_reads_a_paragraph() {
        let text = "C:Q1abc=\nP:containerd\nV:2.0.0-r1\n\nP:docker-engine\nV:27.3.1-r1\nF:usr\n";
        let of = |name| in_tree("lib/apk/db/installed", text, &[name]);
        assert_eq!(of("docker-engine").as_deref(), Some("27.3.1-r1"));
        assert_eq!(of("docker"), None);
        assert_eq!(in_tree("lib/apk/db/installed", "P:", &["x"]), None);
    }

    #[test]
    fn nothing_is_none() {
        assert_eq!(in_tree("etc/hostname", "", &["docker"]), None);
    }
}
