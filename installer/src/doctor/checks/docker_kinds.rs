//! Other Dockers than the system's, and who talks to which.

use super::Checks;
use crate::doctor::look::Look;
use crate::engines::docker::context;

pub const CHECKS: Checks = &[
    ("docker-snap", snap),
    ("docker-two", two),
    ("docker-desktop", desktop),
    ("docker-context", other_context),
];

fn snap(look: &Look) -> Option<String> {
    let engine = look.engine("docker-snap")?;
    look.engine("docker").is_none().then(|| {
        let version = engine.facts().version.clone().unwrap_or_default();
        format!("the snap docker {version} is the only Docker here").replace("  ", " ")
    })
}

fn two(look: &Look) -> Option<String> {
    let names = ["docker-snap", "docker"];
    let both = names.iter().all(|n| look.engine(n).is_some());
    both.then(|| "the snap docker, and dockerd of a package".into())
}

fn desktop(look: &Look) -> Option<String> {
    // Windows' Docker Desktop gives GPUs.
    let is_alone = look.engine("docker").is_none() && !look.platform().wsl;
    look.engine("docker-desktop").filter(|_| is_alone)?;
    Some("Docker Desktop is the only Docker here".into())
}

fn other_context(look: &Look) -> Option<String> {
    look.engine("docker")?;
    context::target(look.host).warning(crate::engines::docker::client::SOCKET)
}
