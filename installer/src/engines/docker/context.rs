//! Finds out which daemon plain `docker` talks to: `DOCKER_HOST`, `DOCKER_CONTEXT`, then the
//! context in ~/.docker/config.json, in that order (docs.docker.com, "Docker contexts").

use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::client::{self, SOCKET};
use crate::host::Host;

/// The daemon that plain `docker` talks to, and why.
#[derive(Debug, PartialEq, Eq)]
pub struct CurrentDaemon {
    /// The daemon's address: `unix:///run/user/1000/docker.sock`.
    pub host: String,
    because: Because,
}

#[derive(Debug, PartialEq, Eq)]
enum Because {
    NothingElse,
    Variable,
    Context(String),
}

/// The target for the user who runs this, or, in a directory tree, for its root user.
pub fn target(host: &Host) -> CurrentDaemon {
    let variable = |name: &str| {
        let value = std::env::var(name).ok().filter(|_| host.is_live());
        value.filter(|v| !v.is_empty())
    };
    target_with(host, variable)
}

fn target_with(host: &Host, variable: impl Fn(&str) -> Option<String>) -> CurrentDaemon {
    if let Some(host) = variable("DOCKER_HOST") {
        let because = Because::Variable;
        return CurrentDaemon { host, because };
    }
    let home = match (host.user(), variable("HOME")) {
        (Some(user), _) => user.home.clone(),
        (None, Some(home)) => home.into(),
        (None, None) => "/root".into(),
    };
    let dir = variable("DOCKER_CONFIG").map_or_else(|| home.join(".docker"), PathBuf::from);
    let name = variable("DOCKER_CONTEXT").or_else(|| {
        let config = json(host, &dir.join("config.json"))?;
        Some(config.get("currentContext")?.as_str()?.to_owned())
    });
    match name.filter(|n| !n.is_empty() && n != "default") {
        Some(name) => CurrentDaemon {
            host: endpoint(host, &dir, &name).unwrap_or_else(|| "a daemon of its own".into()),
            because: Because::Context(name),
        },
        None => CurrentDaemon {
            host: SOCKET.into(),
            because: Because::NothingElse,
        },
    }
}

/// The address of a context, which is in a directory named by the digest of the context's name
/// (docker/cli, cli/context/store).
fn endpoint(host: &Host, dir: &Path, name: &str) -> Option<String> {
    let digest: String = Sha256::digest(name)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let meta = json(
        host,
        &dir.join("contexts/meta").join(digest).join("meta.json"),
    )?;
    Some(meta["Endpoints"]["docker"]["Host"].as_str()?.to_owned())
}

fn json(host: &Host, path: &Path) -> Option<Value> {
    serde_json::from_str(&host.root().read_to_string(path).ok()?).ok()
}

impl CurrentDaemon {
    /// The command after which plain `docker` talks to the Docker that is set up.
    pub fn way_back(&self) -> &'static str {
        match self.because {
            Because::NothingElse => "docker context use rootless",
            Because::Variable => "unset DOCKER_HOST",
            Because::Context(_) => "docker context use default",
        }
    }

    /// A warning if plain `docker` talks to another daemon than the one that is set up.
    pub fn warning(&self, set_up: &str) -> Option<String> {
        if client::is_same(&self.host, set_up) {
            return None;
        }
        let why = match &self.because {
            Because::NothingElse => "no context is chosen".to_owned(),
            Because::Variable => "DOCKER_HOST says so".to_owned(),
            Because::Context(name) => format!("context {name:?}"),
        };
        let mut instead = format!("`{}`", self.way_back());
        if self.because != Because::Variable {
            instead.push_str(&format!(", or `docker -H {set_up}`"));
        }
        Some(format!(
            "plain `docker` talks to {} here ({why}), not to the Docker that is set up; for that one: {instead}",
            self.host
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn in_tree(files: &[(&str, &str)], env: &[(&str, &str)]) -> CurrentDaemon {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let host = Host::open(dir.path(), Path::new("/")).unwrap();
        target_with(&host, |name| {
            let variable = env.iter().find(|(n, _)| *n == name)?;
            Some(variable.1.to_owned())
        })
    }

    const CONFIG: &str = "root/.docker/config.json";

    #[test]
    fn the_systems_daemon_is_the_default() {
        for files in [
            &[][..],
            &[(CONFIG, "{}")],
            &[(CONFIG, "{\"currentContext\":\"default\"}")],
            &[(CONFIG, "{")],
        ] {
            let target = in_tree(files, &[]);
            assert_eq!(target.host, SOCKET);
            assert_eq!(target.warning("unix:///run/docker.sock"), None);
        }
    }

    #[test]
    fn the_address_of_a_context_is_looked_up() {
        // sha256 of "rootless".
        let digest: String = Sha256::digest("rootless")
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let meta = format!("root/.docker/contexts/meta/{digest}/meta.json");
        let files = [
            (CONFIG, "{\"currentContext\":\"rootless\"}"),
            (
                meta.as_str(),
                "{\"Name\":\"rootless\",\"Endpoints\":{\"docker\":{\"Host\":\"unix:///run/user/1000/docker.sock\"}}}",
            ),
        ];
        let target = in_tree(&files, &[]);
        assert_eq!(
            target.warning(SOCKET).unwrap(),
            "plain `docker` talks to unix:///run/user/1000/docker.sock here (context \"rootless\"), not to the \
             Docker that is set up; for that one: `docker context use default`, or `docker -H unix:///var/run/docker.sock`"
        );
        assert_eq!(target.warning("unix:///run/user/1000/docker.sock"), None);
        // A context that is missing or cannot be read.
        assert!(in_tree(&files[..1], &[]).warning(SOCKET).is_some());
    }

    #[test]
    fn variables_override_contexts() {
        let files = [(CONFIG, "{\"currentContext\":\"rootless\"}")];
        let target = in_tree(&files, &[("DOCKER_HOST", "ssh://far")]);
        assert!(
            target
                .warning(SOCKET)
                .unwrap()
                .contains("ssh://far here (DOCKER_HOST says so)")
        );
        let target = in_tree(&files, &[("DOCKER_CONTEXT", "default")]);
        assert_eq!(target.warning(SOCKET), None);
        let moved = [("x/config.json", "{\"currentContext\":\"far\"}")];
        let target = in_tree(&moved, &[("DOCKER_CONFIG", "/x")]);
        assert!(target.warning(SOCKET).unwrap().contains("context \"far\""));
    }
}
