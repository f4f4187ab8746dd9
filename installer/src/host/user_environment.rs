//! Where the services of users look for their files: what running processes and environment.d files show.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gpu_host::Root;

/// dockerd's name, as in `/proc/PID/comm`.
pub const DOCKERD: &str = "dockerd";
/// The program around a rootless dockerd.
pub const ROOTLESSKIT: &str = "rootlesskit";
/// A user's service manager.
pub const MANAGER: &str = "systemd";
/// Programs whose environment shows where a user keeps files.
const TELLING: [&str; 4] = [MANAGER, DOCKERD, ROOTLESSKIT, "podman"];

/// What a process shows about its user's files.
#[derive(Clone, Debug, Default)]
pub struct UserProcess {
    /// The user ID.
    pub uid: u32,
    /// The program's name.
    pub program: String,
    /// Whether it is in a PID namespace below ours, as the processes of most containers are.
    pub is_nested: bool,
    /// The environment that it was started with; empty if it cannot be read.
    pub environment: BTreeMap<String, String>,
    /// The value of dockerd's `--config-file`.
    pub daemon_json: Option<PathBuf>,
}

/// The processes that show where their users keep files. Root's are left out.
pub fn processes(root: &Root) -> Vec<UserProcess> {
    let names = root.read_dir("/proc").unwrap_or_default();
    let pids = names
        .iter()
        .filter(|name| name.as_bytes().iter().all(u8::is_ascii_digit));
    pids.filter_map(|pid| process(root, pid)).collect()
}

/// The settings in the text of an environment.d(5) file, with the usual placeholders for the home directory replaced.
pub fn settings(text: &str, home: &Path) -> BTreeMap<String, String> {
    let set = text.lines().filter_map(|l| l.trim().split_once('='));
    set.map(|(name, value)| (name.to_owned(), expanded(value, home)))
        .collect()
}

/// A directory that an environment names; a relative path is ignored (XDG Base Directory Specification 0.8).
pub fn directory(environment: &BTreeMap<String, String>, name: &str) -> Option<PathBuf> {
    let path = environment.get(name).map(PathBuf::from);
    path.filter(|path| path.is_absolute())
}

fn process(root: &Root, pid: &OsStr) -> Option<UserProcess> {
    let dir = Path::new("/proc").join(pid);
    let comm = root.read_to_string(dir.join("comm")).ok()?;
    let program = comm.trim();
    if !TELLING.contains(&program) {
        return None;
    }
    // The owner of the directory would be wrong: it is root for a process that may not be traced.
    let status = root.read_to_string(dir.join("status")).ok()?;
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name));
    let uid = field("Uid:")?.split_whitespace().next()?;
    let uid = uid.parse().ok().filter(|u| *u != 0)?;
    let environ = root.read(dir.join("environ")).unwrap_or_default();
    let environment = words(&environ)
        .filter_map(|set| {
            set.split_once('=')
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
        })
        .collect();
    let command = root.read(dir.join("cmdline")).unwrap_or_default();
    Some(UserProcess {
        uid,
        program: program.to_owned(),
        is_nested: field("NSpid:").is_some_and(|n| n.split_whitespace().count() > 1),
        environment,
        daemon_json: config_file(words(&command)),
    })
}

fn words(bytes: &[u8]) -> impl Iterator<Item = String> {
    let words = bytes.split(|byte| *byte == 0);
    words.map(|word| String::from_utf8_lossy(word).into_owned())
}

/// The value of dockerd's `--config-file`.
fn config_file(mut words: impl Iterator<Item = String>) -> Option<PathBuf> {
    while let Some(word) = words.next() {
        if word == "--config-file" {
            return words.next().map(PathBuf::from);
        }
        if let Some(file) = word.strip_prefix("--config-file=") {
            return Some(file.into());
        }
    }
    None
}

fn expanded(value: &str, home: &Path) -> String {
    let value = value.trim().trim_matches(['"', '\'']);
    let home = home.display().to_string();
    value.replace("${HOME}", &home).replace("$HOME", &home)
}
