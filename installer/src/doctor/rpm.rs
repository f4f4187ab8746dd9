//! Versions of packages of RPM. Its database is binary, so its own program is asked.

use std::time::Duration;

use crate::host::Host;
use crate::host::answer::Answer;

/// Where RPM has its database, before and after Fedora 36 (fedoraproject.org, Changes/RelocateRPMToUsr).
const DATABASES: [&str; 2] = ["/usr/lib/sysimage/rpm", "/var/lib/rpm"];

/// The version of an installed package; `None` also if this is no host with RPM.
pub fn version(host: &Host, name: &str) -> Answer<String> {
    // Debian has the program too, and its database is empty there.
    let is_other = host.root().exists("/var/lib/dpkg/status");
    let database = DATABASES.iter().find(|dir| host.root().exists(dir));
    let Some(database) = database.filter(|_| !is_other) else {
        return Answer::None;
    };
    if !host.is_live() {
        return Answer::Unknown(format!("{database} can be read by rpm alone"));
    }
    let argv = ["rpm", "-q", "--qf", "%{VERSION}\n", name];
    match host.run(&argv, Duration::from_secs(10)) {
        Ok(out) if out.has_succeeded() => match out.stdout.lines().next() {
            Some(version) => Answer::Known(version.to_owned()),
            None => Answer::Unknown(format!("rpm says nothing of {name}")),
        },
        Ok(out) if out.stdout.contains("is not installed") => Answer::None,
        Ok(out) => Answer::Unknown(format!("rpm -q {name}: {}", out.last_line())),
        Err(e) => Answer::Unknown(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_database_that_cannot_be_read_is_not_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let host = || Host::open(dir.path(), Path::new("/")).unwrap();
        assert_eq!(version(&host(), "runc"), Answer::None);
        std::fs::create_dir_all(dir.path().join("usr/lib/sysimage/rpm")).unwrap();
        assert!(version(&host(), "runc").unknown().is_some());
        let dpkg = dir.path().join("var/lib/dpkg");
        std::fs::create_dir_all(&dpkg).unwrap();
        std::fs::write(dpkg.join("status"), "").unwrap();
        assert_eq!(version(&host(), "runc"), Answer::None);
    }
}
