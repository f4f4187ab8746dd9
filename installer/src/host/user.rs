//! The user who runs gpusetup, if that is not root.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use gpu_host::Root;

use super::user_environment::{
    self, DOCKERD, MANAGER, ROOTLESSKIT, UserProcess, directory, settings,
};

/// The user who runs gpusetup on this host, if that is not root. What is set up then is for this
/// user alone (XDG Base Directory Specification 0.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name, for messages.
    pub name: String,
    /// The home directory.
    pub home: PathBuf,
    /// `XDG_CONFIG_HOME` of the user's services, which need not be the shell's.
    pub config: PathBuf,
    /// `XDG_DATA_HOME` of the user's services.
    pub data: PathBuf,
    /// `XDG_STATE_HOME`.
    pub state: PathBuf,
    /// `XDG_RUNTIME_DIR`.
    pub runtime: PathBuf,
    /// The configuration file that the user's dockerd was started with by `--config-file`.
    pub daemon_json: Option<PathBuf>,
}

impl User {
    /// The user with that UID: directories come from `env`, or else from the specification's
    /// defaults.
    pub fn new(uid: u32, passwd: &str, env: impl Fn(&str) -> Option<String>) -> Self {
        let entry = passwd.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields.get(2)?.parse() == Ok(uid)).then_some(fields)
        });
        let field = |n: usize| entry.as_ref().and_then(|e| e.get(n)).copied();
        // A relative path in these variables is ignored.
        let dir = |name: &str| env(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let home = dir("HOME").unwrap_or_else(|| field(5).unwrap_or("/").into());
        let of_home = |name: &str, below: &str| dir(name).unwrap_or_else(|| home.join(below));
        Self {
            name: field(0).map_or_else(|| uid.to_string(), str::to_owned),
            config: of_home("XDG_CONFIG_HOME", ".config"),
            data: of_home("XDG_DATA_HOME", ".local/share"),
            state: of_home("XDG_STATE_HOME", ".local/state"),
            runtime: dir("XDG_RUNTIME_DIR").unwrap_or_else(|| format!("/run/user/{uid}").into()),
            home,
            daemon_json: None,
        }
    }

    /// The same user, with the directories that the user's dockerd uses: those of its own environment if it runs, or else
    /// of the manager that starts it. Neither sees what a shell has set for itself. Without both, the shell's stay.
    fn with_directories_of_services(
        mut self,
        uid: u32,
        root: &Root,
        processes: &[UserProcess],
    ) -> Self {
        // A dockerd in a container of the user's has the user's ID, too.
        let own = |p: &&UserProcess| p.uid == uid && !p.is_nested && !p.environment.is_empty();
        let find = |program: &str| {
            let mut all = processes.iter().filter(own);
            all.find(|p| p.program == program)
        };
        self.daemon_json = find(DOCKERD).and_then(|p| p.daemon_json.clone());
        let daemon = find(DOCKERD).or_else(|| find(ROOTLESSKIT));
        let Some(process) = daemon.or_else(|| find(MANAGER)) else {
            return self;
        };
        let mut environment = process.environment.clone();
        let home = directory(&environment, "HOME").unwrap_or_else(|| self.home.clone());
        let of_home = |environment: &_, name: &str, below: &str| {
            directory(environment, name).unwrap_or_else(|| home.join(below))
        };
        if daemon.is_none() {
            // What these files set is not in the environment that the manager itself was started with.
            let dir = of_home(&environment, "XDG_CONFIG_HOME", ".config").join("environment.d");
            let mut names = root.read_dir(&dir).unwrap_or_default();
            names.retain(|name| name.to_string_lossy().ends_with(".conf"));
            names.sort();
            for name in names {
                let text = root.read_to_string(dir.join(name)).unwrap_or_default();
                environment.extend(settings(&text, &home));
            }
        }
        self.config = of_home(&environment, "XDG_CONFIG_HOME", ".config");
        self.data = of_home(&environment, "XDG_DATA_HOME", ".local/share");
        self
    }

    /// Whether the runtime directory is there and belongs to the user who runs this: while systemd removes it after the last
    /// session, it is root's.
    pub fn has_runtime(&self, root: &Root) -> bool {
        let owner = root.metadata(&self.runtime).map(|m| m.uid());
        owner.is_ok_and(|uid| uid == nix::unistd::geteuid().as_raw())
    }

    pub fn running(root: &Root) -> Option<Self> {
        let uid = nix::unistd::geteuid();
        if uid.is_root() || !root.is_host() {
            return None;
        }
        let passwd = root.read_to_string("/etc/passwd").unwrap_or_default();
        let user = Self::new(uid.as_raw(), &passwd, |name| std::env::var(name).ok());
        let processes = user_environment::processes(root);
        Some(user.with_directories_of_services(uid.as_raw(), root, &processes))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The user of a tree in which these processes run, as a shell with an `XDG_CONFIG_HOME` of its own starts gpusetup.
    fn user(files: &[(&str, &str)]) -> User {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let root = Root::open(dir.path()).unwrap();
        let passwd = "alice:x:1000:1000::/home/alice:/bin/sh\n";
        let shell = |name: &str| (name == "XDG_CONFIG_HOME").then(|| "/shell".to_owned());
        let processes = user_environment::processes(&root);
        User::new(1000, passwd, shell).with_directories_of_services(1000, &root, &processes)
    }

    const UID: &str = "Uid:\t1000\t1000\t1000\t1000\n";

    #[test]
    fn dockerd_s_environment_counts_before_the_manager_s_and_the_shell_s() {
        assert_eq!(user(&[]).config, Path::new("/shell"));
        let manager = [
            ("proc/7/comm", "systemd\n"),
            ("proc/7/status", UID),
            ("proc/7/environ", "HOME=/home/alice\0"),
        ];
        assert_eq!(user(&manager).config, Path::new("/home/alice/.config"));
        let mut with_file = manager.to_vec();
        with_file.push((
            "home/alice/.config/environment.d/10-xdg.conf",
            "XDG_CONFIG_HOME=$HOME/conf\n",
        ));
        assert_eq!(user(&with_file).config, Path::new("/home/alice/conf"));
        let mut with_daemon = with_file.clone();
        with_daemon.extend([
            ("proc/8/comm", "dockerd\n"),
            ("proc/8/status", UID),
            (
                "proc/8/environ",
                "HOME=/home/alice\0XDG_CONFIG_HOME=/srv/conf\0",
            ),
            ("proc/8/cmdline", "dockerd\0--config-file=/srv/d.json\0"),
        ]);
        let user = user(&with_daemon);
        assert_eq!(user.config, Path::new("/srv/conf"));
        assert_eq!(user.data, Path::new("/home/alice/.local/share"));
        assert_eq!(user.daemon_json.unwrap(), Path::new("/srv/d.json"));
    }

    #[test]
    fn a_dockerd_in_a_container_or_of_another_user_says_nothing() {
        let nested = format!("{UID}NSpid:\t8\t1\n");
        for status in [nested.as_str(), "Uid:\t1001\t1001\t1001\t1001\n"] {
            let user = user(&[
                ("proc/8/comm", "dockerd\n"),
                ("proc/8/status", status),
                ("proc/8/environ", "XDG_CONFIG_HOME=/inside\0"),
                ("proc/8/cmdline", "dockerd\0--config-file=/inside.json\0"),
            ]);
            assert_eq!(user.config, Path::new("/shell"));
            assert_eq!(user.daemon_json, None);
        }
    }
}
