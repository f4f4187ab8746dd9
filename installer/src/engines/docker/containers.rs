//! Finds Docker's running containers and those that need our setup, and determines what a restart stops.

use std::path::Path;

use gpu_inject::policy::{self, Policy};
use serde_json::Value;

use super::client::Client;
use super::stored_container::{self, StoredContainer};
use crate::engines::dependent::DependentContainer;
use crate::host::Host;
use crate::host::answer::Answer;

/// What a restart with live-restore does to running containers, as a message.
pub const KEEP_RUNNING: &str = "running containers keep running (live-restore)";

/// Names of the running containers.
pub fn running(host: &Host, client: &Client) -> Answer<Vec<String>> {
    match client.list(host, &["ps", "--format", "{{.Names}}"]) {
        Ok(names) => Answer::Known(names.lines().map(str::to_owned).collect()),
        Err(why) => Answer::Unknown(why),
    }
}

/// Names of the containers that run, without those that end again and again: `docker ps` counts them as running while
/// they wait for their next start.
pub fn up(host: &Host, client: &Client) -> Answer<Vec<String>> {
    let filters = ["--filter", "status=running", "--filter", "status=paused"];
    let args = [&["ps", "--format", "{{.Names}}"][..], &filters].concat();
    match client.list(host, &args) {
        Ok(names) => Answer::Known(names.lines().map(str::to_owned).collect()),
        Err(why) => Answer::Unknown(why),
    }
}

/// Containers, running or stopped, that could not start without our setup.
pub fn dependent_containers(host: &Host, client: &Client) -> Answer<Vec<DependentContainer>> {
    if !host.is_live() {
        return Answer::None;
    }
    match dependents(host, client) {
        Ok(containers) => Answer::Known(containers),
        Err(why) => Answer::Unknown(why),
    }
}

fn dependents(host: &Host, client: &Client) -> Result<Vec<DependentContainer>, String> {
    // The whole HostConfig: a template with a field that an older Docker does not have fails.
    let format = "{{.Name}}\t{{json .HostConfig}}\t{{json .Config}}";
    let known = policy(host);
    let all = client.list(host, &["ps", "-aq", "--no-trunc"])?;
    let ids: Vec<&str> = all.lines().collect();
    let mut containers = Vec::new();
    // In several commands, because the length of a command line is limited.
    for some in ids.chunks(200) {
        for line in client.inspect(host, format, some)? {
            containers.extend(dependent(&line, &known)?);
        }
    }
    Ok(containers)
}

/// What can be read of the policy: it can have more names by which containers ask for GPUs.
fn policy(host: &Host) -> Policy {
    Policy::salvaged(host.root(), Path::new(policy::PATH))
}

/// Parses a line of `docker inspect`; `None` if that container does not need our setup.
fn dependent(line: &str, known: &Policy) -> Result<Option<DependentContainer>, String> {
    let garbled = || {
        let line = line.get(..200).unwrap_or(line);
        format!("docker inspect: {line:?} tells of no container")
    };
    let fields: Vec<&str> = line.splitn(3, '\t').collect();
    let [name, host_config, config] = fields[..] else {
        return Err(garbled());
    };
    let container = StoredContainer::parse(host_config).map_err(|_| garbled())?;
    let config: Value = serde_json::from_str(config).map_err(|_| garbled())?;
    let container = container.with_env(stored_container::env(&config));
    Ok(container.dependent(name.trim_start_matches('/'), known))
}

/// The same of a Docker that does not run, from the files in its data directory.
pub fn stored_dependents(host: &Host, data_root: &Path) -> Answer<Vec<DependentContainer>> {
    if !host.is_live() {
        return Answer::None;
    }
    match stored_container::all(host, data_root) {
        Ok(containers) => {
            let known = policy(host);
            let dependent = |(name, c): &(String, StoredContainer)| c.dependent(name, &known);
            Answer::Known(containers.iter().filter_map(dependent).collect())
        }
        Err(why) => Answer::Unknown(why),
    }
}

/// What a restart stops, as a message.
pub fn effect(running: &[String], live_restore: bool) -> String {
    match (running, live_restore) {
        ([], _) => "no containers run".into(),
        (_, true) => KEEP_RUNNING.into(),
        ([one], false) => format!("1 running container stops: {one} (live-restore is off)"),
        (many, false) => format!(
            "{} running containers stop: {} (live-restore is off)",
            many.len(),
            many.join(", ")
        ),
    }
}

/// Those of these containers that were started with `--rm`. If Docker does not tell, none: one that is gone is then
/// reported as one that does not run.
pub fn removed_on_stop(host: &Host, client: &Client, names: &[String]) -> Vec<String> {
    if names.is_empty() {
        return Vec::new();
    }
    let ids: Vec<&str> = names.iter().map(String::as_str).collect();
    let lines = client.inspect(host, "{{.HostConfig.AutoRemove}} {{.Name}}", &ids);
    let lines = lines.unwrap_or_default();
    let removed = lines.iter().filter_map(|line| line.strip_prefix("true /"));
    removed.map(str::to_owned).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::*;

    #[test]
    fn containers_that_need_us_are_told_from_others() {
        let text = |rest: &str| {
            let container = dependent(&format!("/web\t{rest}"), &Policy::default());
            container.unwrap().map(|c| c.text)
        };
        assert_eq!(text("{\"Runtime\":\"runc\"}\t{\"Env\":null}"), None);
        assert_eq!(
            text("{\"Runtime\":\"nvidia\"}\t{\"Env\":[\"NVIDIA_VISIBLE_DEVICES=0\"]}").as_deref(),
            Some("web (--runtime nvidia)")
        );
        assert_eq!(
            text("{\"Runtime\":\"nvidia\"}\t{\"Env\":null}").as_deref(),
            Some("web (made with runtime nvidia)")
        );
        let gpus = "{\"Runtime\":\"runc\",\"DeviceRequests\":[{\"Driver\":\"\",\"Count\":-1,\"Capabilities\":[[\"gpu\"]]}]}\t{}";
        assert!(text(gpus).is_some());
        let cdi = "{\"Runtime\":\"runc\",\"DeviceRequests\":[{\"Driver\":\"cdi\",\"DeviceIDs\":[\"nvidia.com/gpu=0\"],\"Capabilities\":null}]}\t{}";
        assert!(text(cdi).is_some());
        assert_eq!(text(&cdi.replace("nvidia.com/gpu", "amd.com/gpu")), None);
        // Output that cannot be parsed must not be taken to mean that the container needs nothing.
        for garbled in ["garbage", "/web\t{}", "/web\t{}\t[{", "/web\trunc\t{}"] {
            assert!(dependent(garbled, &Policy::default()).is_err(), "{garbled}");
        }
    }

    /// A fake docker.
    pub fn docker(dir: &Path, script: &str) -> PathBuf {
        let docker = dir.join("docker");
        // Written by another process: a test that forks at the same time would keep our writable
        // descriptor open, and running the file would fail (ETXTBSY).
        let made = Command::new("sh")
            .args(["-c", "printf %s \"$1\" >\"$2\" && chmod 755 \"$2\"", "sh"])
            .arg(format!("#!/bin/sh\n{script}"))
            .arg(&docker)
            .status();
        assert!(made.unwrap().success());
        docker
    }

    /// A container may disappear between the two commands; the others are still found.
    #[test]
    fn a_container_that_disappeared_does_not_hide_others() {
        let dir = tempfile::tempdir().unwrap();
        let script = "case $3 in\n\
             ps) echo gone; echo here ;;\n\
             inspect) printf '/web\\t{\"Runtime\":\"nvidia\"}\\t{}\\n'; echo 'Error: No such object: gone' >&2; exit 1 ;;\n\
             esac\n";
        let host = Host::open(Path::new("/"), Path::new("/")).unwrap();
        let users = dependent_containers(&host, &Client::by(&docker(dir.path(), script)));
        // Without its variables it is not known that it asks for nothing.
        let web = DependentContainer::with_gpus("web (--runtime nvidia)".into());
        assert_eq!(users, Answer::Known(vec![web]));
    }

    /// A container about which the daemon does not answer may need us, so undo must not continue.
    #[test]
    fn one_that_nobody_told_about_is_not_one_that_needs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::open(Path::new("/"), Path::new("/")).unwrap();
        for (inspect, said) in [
            ("exec sleep 30", "not done after"),
            (
                "echo 'Cannot connect to the Docker daemon' >&2; exit 1",
                "Cannot connect",
            ),
            ("printf '/web\\t{}\\t{}\\n'", "docker inspect"),
            (
                "printf '/web\\t{}\\t{}\\n'; echo 'deadline exceeded' >&2; exit 1",
                "deadline",
            ),
            (
                "printf '/web\\t{}\\t{}\\n/db\\trunc'",
                "tells of no container",
            ),
        ] {
            let script =
                format!("case $3 in\nps) echo web; echo db ;;\ninspect) {inspect} ;;\nesac\n");
            let client = Client::by(&docker(dir.path(), &script));
            let answer = dependent_containers(&host, &client);
            let why = answer
                .unknown()
                .unwrap_or_else(|| panic!("{inspect}: {answer:?}"));
            assert!(why.contains(said), "{inspect}: {why}");
        }
    }

    /// A daemon that answers `info` but not `ps` may have any number of containers.
    #[test]
    fn a_missing_answer_does_not_mean_no_containers() {
        let host = Host::open(Path::new("/"), Path::new("/")).unwrap();
        let silent = Client::by(Path::new("/bin/false"));
        assert!(running(&host, &silent).unknown().is_some());
        assert!(dependent_containers(&host, &silent).unknown().is_some());
    }

    #[test]
    fn containers_that_a_restart_stops_are_counted() {
        let names = |all: &[&str]| all.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(effect(&[], false), "no containers run");
        assert_eq!(
            effect(&names(&["web", "db"]), false),
            "2 running containers stop: web, db (live-restore is off)"
        );
        assert_eq!(
            effect(&names(&["web"]), true),
            "running containers keep running (live-restore)"
        );
    }
}
