//! Finds the users of this host who may have an engine of their own, and the directories in which its files can be:
//! from /etc/passwd, running managers, lingering, and the environment of running processes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Host;
use super::local_files::{LocalFiles, NotSeen};
use super::user_environment::{self, UserProcess};

/// The directory in which logind creates one for each user with a session or manager.
const RUNTIME_DIRS: &str = "/run/user";
/// The directory that lists users whose manager starts at boot (`loginctl enable-linger`).
const LINGER: &str = "/var/lib/systemd/linger";
/// Time limit for the name service to look up a user who is not in /etc/passwd.
const NAME_SERVICE: Duration = Duration::from_secs(5);
/// How long it may take for all users together.
const NAME_SERVICE_IN_ALL: Duration = Duration::from_secs(15);
const PASSWD: &str = "/etc/passwd";

/// A user, and where the user's files can be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The user ID.
    pub uid: u32,
    /// The name, or the ID if there is none.
    pub name: String,
    /// The home directory.
    pub home: PathBuf,
    /// Every possible `XDG_CONFIG_HOME`.
    pub config: Vec<PathBuf>,
    /// Every possible `XDG_DATA_HOME`.
    pub data: Vec<PathBuf>,
    /// Every possible `XDG_STATE_HOME`.
    pub state: Vec<PathBuf>,
    /// Configuration files that a running dockerd was started with.
    pub daemon_json: Vec<PathBuf>,
}

/// The users of a host.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    /// Each user once, by user ID.
    pub known: Vec<Account>,
    /// Users whose home directory is not known.
    pub not_seen: Vec<NotSeen>,
}

/// Finds the users of this host.
pub fn find(host: &Host) -> Accounts {
    let root = host.root();
    let mut accounts = Accounts::default();
    // Names of people in it need not be UTF-8.
    let passwd = root.read(PASSWD).unwrap_or_else(|e| {
        if e.kind() != io::ErrorKind::NotFound {
            accounts.not_seen.push(NotSeen {
                path: PASSWD.into(),
                why: format!("{e}; the users in it are not known"),
            });
        }
        Vec::new()
    });
    let passwd = String::from_utf8_lossy(&passwd);
    let mut entries: BTreeMap<u32, Entry> = BTreeMap::new();
    for entry in passwd.lines().filter_map(Entry::parse) {
        // If a user ID has several lines, the first one counts.
        entries.entry(entry.uid).or_insert(entry);
    }
    let processes = user_environment::processes(root);
    let begin = Instant::now();
    for who in unlisted(host, &entries, &processes) {
        // A name service that is down takes its time for each user.
        let entry = if begin.elapsed() < NAME_SERVICE_IN_ALL {
            asked(host, &who)
        } else {
            Err("the name service does not answer".into())
        };
        match entry {
            Ok(Some(entry)) => drop(entries.insert(entry.uid, entry)),
            Ok(None) => accounts.not_seen.push(NotSeen {
                path: Path::new(RUNTIME_DIRS).join(&who),
                why: format!("user {who} is in no list of users, so their files are not known"),
            }),
            Err(why) => accounts.not_seen.push(NotSeen {
                path: Path::new(RUNTIME_DIRS).join(&who),
                why: format!("where the files of user {who} are is not known: {why}"),
            }),
        }
    }
    let homes = entries
        .into_values()
        .filter(|e| e.home.components().count() > 1);
    accounts.known = homes.map(|entry| account(entry, &processes)).collect();
    accounts
}

impl Account {
    /// Adds the settings of the user's environment.d files (environment.d(5)). A running manager has them in its own
    /// environment only from systemd 240 on, and a manager that does not run has no environment.
    pub fn add_environment_files(&mut self, files: &LocalFiles) -> Vec<NotSeen> {
        let mut not_seen = Vec::new();
        let dirs = self.config.clone();
        for dir in dirs {
            let Some(home) = dir.parent().map(Path::to_owned) else {
                continue;
            };
            let (paths, unseen) = files.matching(&dir.join("environment.d/*.conf"));
            not_seen.extend(unseen);
            for path in paths {
                let text = match files.text(&path) {
                    Ok(text) => text.unwrap_or_default(),
                    Err(unseen) => {
                        not_seen.push(unseen);
                        continue;
                    }
                };
                self.add(&user_environment::settings(&text, &home));
            }
        }
        not_seen
    }

    /// Removes the directories that cannot be read, and returns them. A home directory is removed as a whole.
    pub fn drop_unseen(&mut self, files: &LocalFiles) -> Vec<NotSeen> {
        let mut dropped: Vec<NotSeen> = Vec::new();
        for list in [&mut self.config, &mut self.data, &mut self.state] {
            list.retain(|dir| {
                let Err(unseen) = files.exists(dir) else {
                    return true;
                };
                let is_in_home = dir.starts_with(&self.home);
                let path = if is_in_home { &self.home } else { dir };
                if !dropped.iter().any(|d| d.path == *path) {
                    dropped.push(NotSeen {
                        path: path.clone(),
                        ..unseen
                    });
                }
                false
            });
        }
        dropped
    }

    fn add(&mut self, environment: &BTreeMap<String, String>) {
        let dir = |name: &str| user_environment::directory(environment, name);
        let home = dir("HOME");
        for (list, name, default) in [
            (&mut self.config, "XDG_CONFIG_HOME", ".config"),
            (&mut self.data, "XDG_DATA_HOME", ".local/share"),
            (&mut self.state, "XDG_STATE_HOME", ".local/state"),
        ] {
            let of_home = home.as_ref().map(|home| home.join(default));
            for path in dir(name).into_iter().chain(of_home) {
                if !list.contains(&path) {
                    list.push(path);
                }
            }
        }
    }
}

/// A line of /etc/passwd.
#[derive(Clone, Debug)]
struct Entry {
    name: String,
    uid: u32,
    home: PathBuf,
}

impl Entry {
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, _, _, home, ..] = fields[..] else {
            return None;
        };
        Some(Self {
            name: name.to_owned(),
            uid: uid.parse().ok()?,
            home: home.into(),
        })
    }
}

fn account(entry: Entry, processes: &[UserProcess]) -> Account {
    let mut account = Account {
        uid: entry.uid,
        name: entry.name,
        home: entry.home.clone(),
        ..Account::default()
    };
    let home = entry.home.display().to_string();
    account.add(&BTreeMap::from([("HOME".to_owned(), home)]));
    for process in processes.iter().filter(|t| t.uid == entry.uid) {
        account.add(&process.environment);
        account.daemon_json.extend(process.daemon_json.clone());
    }
    account
}

/// The names or IDs of users who are not in /etc/passwd, such as those of LDAP.
fn unlisted(host: &Host, entries: &BTreeMap<u32, Entry>, processes: &[UserProcess]) -> Vec<String> {
    let names = |dir: &str| host.root().read_dir(dir).unwrap_or_default();
    let by_name = names(LINGER).into_iter().filter_map(|name| {
        let name = name.into_string().ok()?;
        (!entries.values().any(|e| e.name == name)).then_some(name)
    });
    let running = names(RUNTIME_DIRS)
        .into_iter()
        .filter_map(|uid| uid.to_str()?.parse().ok());
    let by_uid = running
        .chain(processes.iter().map(|t| t.uid))
        .filter(|uid| !entries.contains_key(uid))
        .map(|uid| uid.to_string());
    let mut who: Vec<String> = by_name.chain(by_uid).collect();
    who.sort();
    who.dedup();
    who
}

/// The user's entry according to the name service; `None` if it knows no such user.
fn asked(host: &Host, who: &str) -> Result<Option<Entry>, String> {
    if !host.is_live() {
        return Ok(None);
    }
    let answer = host.run(&["getent", "passwd", who], NAME_SERVICE);
    let answer = answer.map_err(|e| e.to_string())?;
    Ok(answer.stdout.lines().find_map(Entry::parse))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let host = Host::open(dir.path(), Path::new("/")).unwrap();
        (dir, host)
    }

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nbin:x:2:2::/:/bin/false\n\
        alice:x:1000:1000::/srv/people/alice:/bin/sh\nodd\nagain:x:1000:1::/home/again:/bin/sh\n";

    #[test]
    fn a_user_s_files_are_where_passwd_and_their_processes_say() {
        let (_dir, host) = tree(&[
            ("etc/passwd", PASSWD),
            ("proc/7/comm", "systemd\n"),
            (
                "proc/7/status",
                "Name:\tsystemd\nUid:\t1000\t1000\t1000\t1000\n",
            ),
            (
                "proc/7/environ",
                "HOME=/srv/people/alice\0XDG_CONFIG_HOME=/srv/conf\0XDG_DATA_HOME=relative\0",
            ),
            ("proc/8/comm", "dockerd\n"),
            ("proc/8/status", "Uid:\t1000\t1000\t1000\t1000\n"),
            ("proc/8/cmdline", "dockerd\0--config-file\0/srv/d.json\0"),
            ("proc/9/comm", "dockerd\n"),
            ("proc/9/status", "Uid:\t0\t0\t0\t0\n"),
            ("proc/9/cmdline", "dockerd\0--config-file=/root/d.json\0"),
        ]);
        let accounts = find(&host).known;
        let names: Vec<&str> = accounts.iter().map(|a| a.name.as_str()).collect();
        assert_eq!(names, ["root", "alice"]);
        let alice = &accounts[1];
        assert_eq!(
            alice.config,
            [
                Path::new("/srv/people/alice/.config"),
                Path::new("/srv/conf")
            ]
        );
        assert_eq!(alice.data, [Path::new("/srv/people/alice/.local/share")]);
        assert_eq!(alice.daemon_json, [Path::new("/srv/d.json")]);
        assert!(accounts[0].daemon_json.is_empty());
    }

    #[test]
    fn who_has_a_manager_and_is_in_no_list_is_named() {
        let (dir, host) = tree(&[("etc/passwd", PASSWD), ("var/lib/systemd/linger/ldap", "")]);
        fs::create_dir_all(dir.path().join("run/user/1000")).unwrap();
        fs::create_dir_all(dir.path().join("run/user/4000")).unwrap();
        let unseen = find(&host).not_seen;
        let paths: Vec<&Path> = unseen.iter().map(|n| n.path.as_path()).collect();
        assert_eq!(
            paths,
            [Path::new("/run/user/4000"), Path::new("/run/user/ldap")]
        );
    }

    #[test]
    fn environment_files_are_read() {
        let (_dir, host) = tree(&[
            ("etc/passwd", PASSWD),
            (
                "srv/people/alice/.config/environment.d/50-x.conf",
                "# mine\nXDG_CONFIG_HOME=\"$HOME/conf\"\nXDG_STATE_HOME=${HOME}/state\n",
            ),
        ]);
        let mut alice = find(&host).known.remove(1);
        let files = LocalFiles::open(host.root()).unwrap();
        assert_eq!(alice.add_environment_files(&files).len(), 0);
        assert!(alice.config.contains(&"/srv/people/alice/conf".into()));
        assert!(alice.state.contains(&"/srv/people/alice/state".into()));
    }
}
