//! Rootless Docker, which each user has in their own files. The user sets it up; root writes into
//! no home directory, where a link could lead anywhere, and only reports which users have one.

use std::path::{Path, PathBuf};

use gpu_host::Root;

use crate::engines::docker::unmanaged::Unmanaged;
use crate::error::invocation::Invocation;
use crate::host::Host;
use crate::host::systemd_unit::Unit;
use crate::host::user::User;

/// The engine's name.
pub const NAME: &str = "docker-rootless";
/// The user unit that dockerd-rootless-setuptool.sh writes (docs.docker.com, "Rootless mode").
pub const UNIT: &str = "docker.service";

/// The warning about a Docker that [`hides_specs`].
pub const BLIND: &str = "dockerd-rootless.sh of this Docker hides CDI specs from it (moby #47676), so `--device nvidia.com/gpu=…` finds no GPU: use `--runtime nvidia`, or a newer Docker";

/// Unit directories of a user (systemd.unit(5), "Table 2").
pub fn unit_dirs(user: &User) -> Vec<PathBuf> {
    vec![
        user.config.join("systemd/user"),
        "/etc/systemd/user".into(),
        user.runtime.join("systemd/user"),
        "/run/systemd/user".into(),
        user.data.join("systemd/user"),
        "/usr/local/lib/systemd/user".into(),
        "/usr/lib/systemd/user".into(),
    ]
}

/// The unit that starts rootless Docker.
pub fn unit(host: &Host, user: &User) -> Unit {
    Unit::read_in(host, UNIT, &unit_dirs(user))
}

/// The socket on which it listens (dockerd-rootless.sh).
pub fn socket(user: &User) -> PathBuf {
    user.runtime.join("docker.sock")
}

/// Whether its start script hides CDI specs. The script makes rootlesskit replace the entries of
/// /etc and /run with links, and dockerd does not follow links when it looks for specs (moby
/// #47676; seen on 26.1.5). Later scripts mount both directories again (moby #48541, also in 25.0,
/// 26.1 and 27), so the script is read, not the version.
pub fn hides_specs(host: &Host, unit: &Unit) -> bool {
    let script = unit.program().map(PathBuf::from);
    let script = script.or_else(|| host.program("dockerd-rootless.sh"));
    let text = script.and_then(|s| host.lossy_text(&s));
    text.is_some_and(|t| t.contains("--copy-up=/run") && !t.contains("/cdi"))
}

/// Whether a user has rootless Docker.
pub fn is_there(host: &Host, user: &User) -> bool {
    unit(host, user).exists() || host.root().exists(socket(user))
}

/// The rootless Dockers of other users, as root sees them.
pub fn of_others(host: &Host) -> Option<Unmanaged> {
    if host.user().is_some() {
        return None;
    }
    // A separate handle, so that a home directory that root cannot read (NFS) does not count as
    // unreadable for this host.
    let root = Root::open(host.root().path()).ok()?;
    let passwd = root.read_to_string("/etc/passwd").unwrap_or_default();
    let mut names: Vec<String> = Vec::new();
    for line in passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, _, _, home, ..] = fields[..] else {
            continue;
        };
        let Some(uid) = uid.parse::<u32>().ok().filter(|u| *u != 0) else {
            continue;
        };
        let unit = Path::new(home).join(".config/systemd/user").join(UNIT);
        let has_unit = home.len() > 1 && root.symlink_metadata(unit).is_ok_and(|m| m.is_file());
        let listens = root.exists(format!("/run/user/{uid}/docker.sock"));
        if has_unit || listens {
            names.push(name.to_owned());
        }
    }
    // Users who are not in /etc/passwd, such as those of LDAP.
    for uid in root.read_dir("/run/user").unwrap_or_default() {
        let uid = uid.to_string_lossy().into_owned();
        let is_known = passwd.lines().any(|l| l.split(':').nth(2) == Some(&uid));
        if !is_known && root.exists(format!("/run/user/{uid}/docker.sock")) {
            names.push(uid);
        }
    }
    let (first, rest) = names.split_first()?;
    let (whose, instead) = if rest.is_empty() {
        (
            format!("docker of user {first} is rootless"),
            format!("run `{}` as {first}", Invocation::Install),
        )
    } else {
        (
            format!("docker of users {} is rootless", names.join(", ")),
            format!("run `{}` as each of them", Invocation::Install),
        )
    };
    Some(Unmanaged::new(
        NAME,
        format!("{whose}, and root writes into no home directory"),
        instead,
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::error::Error;
    use crate::host::service::Verb;
    use crate::setup::install_planner::{self, InstallRequest};
    use crate::transaction::plan::Plan;

    fn tree() -> (tempfile::TempDir, impl Fn(&str, &str)) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        let write = move |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        (dir, write)
    }

    const UNIT_FILE: &str = "home/alice/.config/systemd/user/docker.service";

    /// The plan of a run by alice.
    fn plan(dir: &Path, only: &[&str]) -> Result<Plan, Error> {
        let user = User::new(1000, "alice:x:1000:1000::/home/alice:/bin/sh", |_| None);
        let host = Host::open(dir, Path::new("/")).unwrap().seen_by(user);
        let request = InstallRequest {
            only: only.iter().map(|o| (*o).to_owned()).collect(),
            ..InstallRequest::default()
        };
        install_planner::plan(&host, &request)
    }

    #[test]
    fn a_user_sets_up_only_their_own_docker() {
        let (dir, write) = tree();
        write("etc/os-release", "ID=debian\n");
        write("usr/bin/dockerd", "");
        write("usr/bin/containerd", "");
        write(
            UNIT_FILE,
            "[Service]\nExecStart=/usr/bin/dockerd-rootless.sh\n",
        );
        write(
            "var/lib/dpkg/status",
            "Package: docker-ce\nStatus: install ok installed\nVersion: 5:27.5.1\n\n",
        );
        let missing = plan(dir.path(), &[]).err().unwrap();
        assert_eq!(
            missing.to_string(),
            "/var/run/cdi/nvidia.yaml is not there yet, which only root can make"
        );
        assert_eq!(
            missing.fix().unwrap(),
            "run `sudo gpusetup install` first, then this again"
        );
        assert_eq!(missing.exit().number(), 6);

        write("var/run/cdi/nvidia.yaml", "");
        write("run/gpusetup/inventory.json", "");
        let planned = plan(dir.path(), &[]).unwrap();
        let paths: Vec<&Path> = planned.changes.iter().map(|c| c.path.as_path()).collect();
        assert_eq!(paths, [Path::new("/home/alice/.config/docker/daemon.json")]);
        let why = &planned.changes[0].why;
        assert_eq!(why, "add runtime \"nvidia\"; turn on CDI");
        let (engine, activation) = &planned.engines[0];
        assert_eq!(engine.facts().name, NAME);
        let service = activation.service().unwrap();
        assert_eq!(
            service.restart_command().join(" "),
            "systemctl --user restart docker.service"
        );
        let (of, verb) = activation.of().unwrap();
        assert!(verb == Verb::Restart && !of.unit_changes);
        // Docker 27.5 does not start containers with CDI devices again.
        let [restarts, context] = &planned.warnings[..] else {
            panic!("{:?}", planned.warnings)
        };
        assert!(restarts.contains("moby #49989"), "{restarts}");
        assert!(
            context.contains("`docker context use rootless`"),
            "{context}"
        );

        let refused = plan(dir.path(), &["docker"]).err().unwrap();
        assert_eq!(
            refused.to_string(),
            "docker is the system's, not this user's"
        );
    }

    #[test]
    fn cdi_is_turned_on_if_the_rootless_script_lets_dockerd_see_specs() {
        let (dir, write) = tree();
        write("etc/os-release", "ID=debian\n");
        write("usr/bin/dockerd", "");
        write("var/run/cdi/nvidia.yaml", "");
        write("run/gpusetup/inventory.json", "");
        write(
            UNIT_FILE,
            "[Service]\nExecStart=/usr/bin/dockerd-rootless.sh --iptables=false\n",
        );
        write(
            "var/lib/dpkg/status",
            "Package: docker.io\nStatus: install ok installed\nVersion: 26.1.5+dfsg1-9\n\n",
        );
        let planned = |script: &str| {
            write("usr/bin/dockerd-rootless.sh", script);
            let planned = plan(dir.path(), &[]).unwrap();
            let is_said = planned.warnings.iter().any(|w| w == BLIND);
            (planned.changes[0].why.clone(), is_said)
        };
        let hides = "exec $rootlesskit --copy-up=/etc --copy-up=/run $0 $@\n";
        assert_eq!(planned(hides), ("add runtime \"nvidia\"".to_owned(), true));
        let shows = format!("{hides}mount --rbind \"$(realpath /run/cdi)\" /run/cdi\n");
        let both = "add runtime \"nvidia\"; turn on CDI".to_owned();
        assert_eq!(planned(&shows), (both, false));
    }

    #[test]
    fn the_file_named_by_the_unit_is_edited() {
        let (dir, write) = tree();
        write("etc/os-release", "ID=debian\n");
        write("var/run/cdi/nvidia.yaml", "");
        write("run/gpusetup/inventory.json", "");
        // A socket alone also counts, because dockerd may have been started by hand.
        write("run/user/1000/docker.sock", "");
        let planned = plan(dir.path(), &[]).unwrap();
        let path = &planned.changes[0].path;
        assert_eq!(path, Path::new("/home/alice/.config/docker/daemon.json"));
        write(
            UNIT_FILE,
            "[Service]\nExecStart=/home/alice/bin/dockerd-rootless.sh --config-file /home/alice/d.json\n",
        );
        let planned = plan(dir.path(), &[]).unwrap();
        assert_eq!(planned.changes[0].path, Path::new("/home/alice/d.json"));
    }

    #[test]
    fn rootless_dockers_of_other_users_are_named() {
        let (dir, write) = tree();
        write(
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\nbob:x:1001:1001::/home/bob:/bin/sh\nodd\n",
        );
        let note = || {
            let host = Host::open(dir.path(), Path::new("/")).unwrap();
            let engine = of_others(&host);
            engine.map(|e| crate::engines::engine::Engine::facts(&e).notes[0].clone())
        };
        assert_eq!(note(), None);
        write(UNIT_FILE, "");
        assert_eq!(
            note().unwrap(),
            "docker of user alice is rootless, and root writes into no home directory; run `gpusetup install` as alice"
        );
        write("run/user/4000/docker.sock", "");
        assert_eq!(
            note().unwrap(),
            "docker of users alice, 4000 is rootless, and root writes into no home directory; run `gpusetup install` as each of them"
        );
    }
}
