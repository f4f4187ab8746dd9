//! Rootless Docker, which each user has in their own files. The user sets it up; root writes into
//! no home directory, where a link could lead anywhere, and only reports which users have one.

use std::path::PathBuf;

use crate::engines::unmanaged::Unmanaged;
use crate::error::invocation::Invocation;
use crate::host::local_files::LocalFiles;
use crate::host::systemd_unit::Unit;
use crate::host::user::User;
use crate::host::{Host, RECEIPT, accounts};

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
    // Homes on file systems that may block are not accessed, and failed reads are no fault of this host.
    let files = LocalFiles::open(host.root()).ok()?;
    let is_there = |path: PathBuf| files.exists(&path).unwrap_or(false);
    let accounts = accounts::find(host);
    let (mut set_up, mut not_set_up) = (Vec::new(), Vec::new());
    for account in accounts.known.into_iter().filter(|a| a.uid != 0) {
        let mut units = account
            .config
            .iter()
            .map(|dir| dir.join("systemd/user").join(UNIT));
        let listens = || is_there(format!("/run/user/{}/docker.sock", account.uid).into());
        if !units.any(is_there) && !listens() {
            continue;
        }
        let mut receipts = account
            .state
            .iter()
            .map(|dir| dir.join("gpusetup").join(RECEIPT));
        if receipts.any(is_there) {
            set_up.push(account.name);
        } else {
            not_set_up.push(account.name);
        }
    }
    // Users of whom nothing but the runtime directory is known.
    for unseen in accounts.not_seen {
        if is_there(unseen.path.join("docker.sock")) {
            let who = unseen.path.file_name().unwrap_or_default();
            not_set_up.push(who.to_string_lossy().into_owned());
        }
    }
    let (why, instead) = words_about_others(&set_up, &not_set_up)?;
    Some(Unmanaged::new(NAME, why, instead))
}

/// What root is told about the rootless Dockers of users who have set up GPUs in theirs, and of those who have not: whose
/// they are, and what to do. `None` if there are none.
fn words_about_others(set_up: &[String], not_set_up: &[String]) -> Option<(String, String)> {
    let owners = |names: &[String]| match names {
        [one] => format!("user {one}"),
        all => format!("users {}", all.join(", ")),
    };
    let each = |names: &[String]| match names {
        [one] => one.clone(),
        _ => "each of them".to_owned(),
    };
    let done = format!(
        "docker of {} is rootless and set up for GPUs",
        owners(set_up)
    );
    match (set_up, not_set_up) {
        ([], []) => None,
        (_, []) => Some((
            done,
            format!(
                "to undo that, run `{}` as {}",
                Invocation::Undo,
                each(set_up)
            ),
        )),
        ([], _) => Some((
            format!(
                "docker of {} is rootless, and root writes into no home directory",
                owners(not_set_up)
            ),
            format!("run `{}` as {}", Invocation::Install, each(not_set_up)),
        )),
        _ => Some((
            format!(
                "docker of {} is rootless, and root writes into no home directory",
                owners(not_set_up)
            ),
            format!(
                "run `{}` as {}; {done}",
                Invocation::Install,
                each(not_set_up)
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

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
        write("home/alice/.local/state/gpusetup/receipt.json", "");
        assert_eq!(
            note().unwrap(),
            "docker of user 4000 is rootless, and root writes into no home directory; run `gpusetup install` as 4000; \
             docker of user alice is rootless and set up for GPUs"
        );
        fs::remove_dir_all(dir.path().join("run")).unwrap();
        assert_eq!(
            note().unwrap(),
            "docker of user alice is rootless and set up for GPUs; to undo that, run `gpusetup undo` as alice"
        );
        // A unit that is not in ~/.config, since her manager has another directory.
        fs::remove_dir_all(dir.path().join("home")).unwrap();
        assert_eq!(note(), None);
        write("proc/9/comm", "systemd\n");
        write("proc/9/status", "Uid:\t1001\t1001\t1001\t1001\n");
        write("proc/9/environ", "XDG_CONFIG_HOME=/srv/bob\0");
        write("srv/bob/systemd/user/docker.service", "");
        assert!(note().unwrap().contains("as bob"), "{:?}", note());
    }
}
