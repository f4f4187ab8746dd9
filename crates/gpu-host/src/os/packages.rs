//! Versions of installed packages, from the plain-text databases of package managers.

use crate::root::Root;

/// Version of the first of these packages that is installed, from the databases of dpkg, pacman
/// and apk.
///
/// `None` if none is installed, and on RPM hosts, whose database is binary; this crate runs no
/// programs.
pub fn version(root: &Root, names: &[&str]) -> Option<String> {
    dpkg(root, names)
        .or_else(|| pacman(root, names))
        .or_else(|| apk(root, names))
}

/// The version of the installed package whose name comes first in `names`.
fn first<N: AsRef<str>>(
    names: &[&str],
    installed: impl Iterator<Item = (N, String)>,
) -> Option<String> {
    installed
        .filter_map(|(name, version)| {
            let position = names.iter().position(|n| *n == name.as_ref())?;
            Some((position, version))
        })
        .min_by_key(|(position, _)| *position)
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

/// pacman has a directory `NAME-VERSION-RELEASE` for each package; version and release contain no
/// dash (PKGBUILD(5)).
fn pacman(root: &Root, names: &[&str]) -> Option<String> {
    let entries = root.read_dir("/var/lib/pacman/local").ok()?;
    let installed = entries.iter().filter_map(|entry| {
        let mut parts = entry.to_str()?.rsplitn(3, '-');
        let (release, version, name) = (parts.next()?, parts.next()?, parts.next()?);
        Some((name, format!("{version}-{release}")))
    });
    first(names, installed)
}

/// apk has a paragraph for each package and a letter for each field. The file is in /lib for apk-tools 2, in /usr/lib for 3.
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
    fn dpkg_ignores_packages_that_were_removed() {
        let status = "Package: docker.io\nStatus: deinstall ok config-files\nVersion: 20.10\n\nPackage: docker-ce\nStatus: install ok installed\nVersion: 5:27.3.1-1\n";
        let version_of = |names: &[&str]| in_tree("var/lib/dpkg/status", status, names);
        assert_eq!(version_of(&["docker.io"]), None);
        assert_eq!(
            version_of(&["docker.io", "docker-ce"]).as_deref(),
            Some("5:27.3.1-1")
        );
    }

    #[test]
    fn the_order_of_names_decides_not_the_order_of_packages() {
        // Debian 11 has an unrelated package `docker`, a tray for window managers.
        let status = "Package: docker\nStatus: install ok installed\nVersion: 1.5-2\n\nPackage: docker.io\nStatus: install ok installed\nVersion: 20.10.5\n";
        let version = in_tree("var/lib/dpkg/status", status, &["docker.io", "docker"]);
        assert_eq!(version.as_deref(), Some("20.10.5"));
    }

    #[test]
    fn pacman_does_not_match_a_longer_name() {
        let version_of =
            |dir: &str| in_tree(&format!("var/lib/pacman/local/{dir}/desc"), "", &["docker"]);
        assert_eq!(
            version_of("docker-1:27.3.1-1").as_deref(),
            Some("1:27.3.1-1")
        );
        assert_eq!(version_of("docker-buildx-0.17.1-1"), None);
        assert_eq!(version_of("docker"), None);
    }

    #[test]
    fn apk_reads_a_paragraph() {
        let text = "C:Q1abc=\nP:containerd\nV:2.0.0-r1\n\nP:docker-engine\nV:27.3.1-r1\nF:usr\n";
        let version_of = |name| in_tree("lib/apk/db/installed", text, &[name]);
        assert_eq!(version_of("docker-engine").as_deref(), Some("27.3.1-r1"));
        assert_eq!(version_of("docker"), None);
        assert_eq!(in_tree("lib/apk/db/installed", "P:", &["x"]), None);
    }

    #[test]
    fn no_package_database_is_none() {
        assert_eq!(in_tree("etc/hostname", "", &["docker"]), None);
    }
}
