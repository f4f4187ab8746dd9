//! Finds Docker's running containers and those that need our setup, and determines what a restart stops.

use std::path::Path;

use serde_json::Value;

use super::client::Client;
use super::stored_container;
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

/// Containers, running or stopped, that could not start without our setup.
pub fn dependent_containers(host: &Host, client: &Client) -> Answer<Vec<String>> {
    if !host.is_live() {
        return Answer::None;
    }
    match dependents(host, client) {
        Ok(names) => Answer::Known(names),
        Err(why) => Answer::Unknown(why),
    }
}

fn dependents(host: &Host, client: &Client) -> Result<Vec<String>, String> {
    let format = "{{.Name}}\t{{.HostConfig.Runtime}}\t{{json .HostConfig.DeviceRequests}}";
    let all = client.list(host, &["ps", "-aq", "--no-trunc"])?;
    let ids: Vec<&str> = all.lines().collect();
    let mut names = Vec::new();
    // In several commands, because the length of a command line is limited.
    for some in ids.chunks(200) {
        for line in client.inspect(host, format, some)? {
            names.extend(dependent(&line)?);
        }
    }
    Ok(names)
}

/// Parses a line of `docker inspect`; `None` if that container does not need our setup.
fn dependent(line: &str) -> Result<Option<String>, String> {
    let garbled = || format!("docker inspect: {line:?} tells of no container");
    let fields: Vec<&str> = line.splitn(3, '\t').collect();
    let [name, runtime, requests] = fields[..] else {
        return Err(garbled());
    };
    let name = name.trim_start_matches('/');
    let requests: Value = serde_json::from_str(requests).map_err(|_| garbled())?;
    // `null` for a container without devices.
    let requests = requests.as_array().into_iter().flatten();
    let need = stored_container::need(runtime, requests);
    Ok(need.map(|need| format!("{name} ({need})")))
}

/// The same of a Docker that does not run, from the files in its data directory.
pub fn stored_dependents(host: &Host, data_root: &Path) -> Answer<Vec<String>> {
    if !host.is_live() {
        return Answer::None;
    }
    match stored_container::all(host, data_root) {
        Ok(containers) => Answer::Known(
            containers
                .into_iter()
                .filter_map(|(name, c)| Some(format!("{name} ({})", c.need()?)))
                .collect(),
        ),
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

#[cfg(test)]
pub(super) mod tests {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::*;

    #[test]
    fn containers_that_need_us_are_told_from_others() {
        let user = |rest: &str| dependent(&format!("/web\t{rest}")).unwrap();
        assert_eq!(user("runc\tnull"), None);
        assert_eq!(
            user("nvidia\tnull").as_deref(),
            Some("web (--runtime nvidia)")
        );
        let gpus = "runc\t[{\"Driver\":\"\",\"Count\":-1,\"DeviceIDs\":null,\"Capabilities\":[[\"gpu\"]],\"Options\":{}}]";
        assert!(user(gpus).is_some());
        let cdi = "runc\t[{\"Driver\":\"cdi\",\"DeviceIDs\":[\"nvidia.com/gpu=0\"],\"Capabilities\":null}]";
        assert!(user(cdi).is_some());
        assert_eq!(user(&cdi.replace("nvidia.com/gpu", "amd.com/gpu")), None);
        // Output that cannot be parsed must not be taken to mean that the container needs nothing.
        for garbled in ["garbage", "/web\trunc", "/web\trunc\t[{"] {
            assert!(dependent(garbled).is_err(), "{garbled}");
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
             inspect) printf '/web\\tnvidia\\tnull\\n'; echo 'Error: No such object: gone' >&2; exit 1 ;;\n\
             esac\n";
        let host = Host::open(Path::new("/"), Path::new("/")).unwrap();
        let users = dependent_containers(&host, &Client::by(&docker(dir.path(), script)));
        let web = vec!["web (--runtime nvidia)".to_owned()];
        assert_eq!(users, Answer::Known(web));
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
            ("printf '/web\\trunc\\tnull\\n'", "docker inspect"),
            (
                "printf '/web\\trunc\\tnull\\n'; echo 'deadline exceeded' >&2; exit 1",
                "deadline",
            ),
            (
                "printf '/web\\trunc\\tnull\\n/db\\trunc'",
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
