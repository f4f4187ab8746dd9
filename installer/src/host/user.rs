//! The user who runs gpusetup, if that is not root.

use std::path::PathBuf;

use gpu_host::Root;

/// The user who runs gpusetup on this host, if that is not root. What is set up then is for this
/// user alone (XDG Base Directory Specification 0.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name, for messages.
    pub name: String,
    /// The home directory.
    pub home: PathBuf,
    /// `XDG_CONFIG_HOME`.
    pub config: PathBuf,
    /// `XDG_DATA_HOME`.
    pub data: PathBuf,
    /// `XDG_STATE_HOME`.
    pub state: PathBuf,
    /// `XDG_RUNTIME_DIR`.
    pub runtime: PathBuf,
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
        }
    }

    pub fn running(root: &Root) -> Option<Self> {
        let uid = nix::unistd::geteuid();
        if uid.is_root() || !root.is_host() {
            return None;
        }
        let passwd = root.read_to_string("/etc/passwd").unwrap_or_default();
        Some(Self::new(uid.as_raw(), &passwd, |name| {
            std::env::var(name).ok()
        }))
    }
}
