//! Checks of Dockers other than the system's, and of which one the client talks to.

use crate::doctor::checks::check::Checks;
use crate::doctor::facts::HostFacts;
use crate::doctor::remedy::{Remedies, Remedy};
use crate::engines::docker;
use crate::engines::docker::context::CurrentDaemon;

pub const CHECKS: Checks = &[
    ("docker-snap", snap),
    ("docker-two", two),
    ("docker-desktop", desktop),
    ("docker-context", other_context),
];

pub const REMEDIES: Remedies = &[("docker-desktop", beside), ("docker-context", the_way_back)];

fn snap(look: &HostFacts) -> Option<String> {
    let engine = look.engine("docker-snap")?;
    look.engine("docker").is_none().then(|| {
        let version = engine.facts().version.clone().unwrap_or_default();
        format!("the snap docker {version} is the only Docker here").replace("  ", " ")
    })
}

fn two(look: &HostFacts) -> Option<String> {
    let names = ["docker-snap", "docker"];
    let both = names.iter().all(|n| look.engine(n).is_some());
    both.then(|| "the snap docker, and dockerd of a package".into())
}

fn desktop(look: &HostFacts) -> Option<String> {
    // Docker Desktop on Windows can give GPUs to containers.
    let is_alone = look.engine("docker").is_none() && !look.platform().wsl;
    look.engine("docker-desktop").filter(|_| is_alone)?;
    Some("Docker Desktop is the only Docker here".into())
}

fn other_context(look: &HostFacts) -> Option<String> {
    look.docker_target()?
        .warning(&docker::own_socket(look.host))
}

/// There is no other Docker to choose yet.
fn beside(_: &HostFacts, usual: Remedy) -> Remedy {
    usual.by_any(None)
}

fn the_way_back(look: &HostFacts, usual: Remedy) -> Remedy {
    let back = look.docker_target().map(CurrentDaemon::way_back);
    usual.by_any(back.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::host::Host;
    use crate::host::user::User;

    #[test]
    fn the_client_of_a_rootless_docker_should_use_its_socket() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            "home/alice/.config/systemd/user/docker.service",
            "[Service]\n",
        );
        let passwd = "alice:x:1000:1000::/home/alice:/bin/sh\n";
        let host = || Host::open(dir.path(), Path::new("/")).unwrap();
        let alice = host().seen_by(User::new(1000, passwd, |_| None));
        let bob = host().seen_by(User::new(1001, passwd, |_| None));
        assert_eq!(
            docker::own_socket(&alice),
            "unix:///run/user/1000/docker.sock"
        );
        for other in [bob, host()] {
            assert_eq!(docker::own_socket(&other), docker::client::SOCKET);
        }
    }
}
