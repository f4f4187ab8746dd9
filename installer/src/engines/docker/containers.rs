//! Finds Docker's running containers and those that need what we set up, tells what a restart
//! stops, and starts stopped ones again.

use std::time::Duration;

use serde_json::Value;

use super::client::Client;
use crate::error::Error;
use crate::host::Host;
use crate::model::setup_options::SetupOptions;

const KEEP_RUNNING: &str = "running containers keep running (live-restore)";
/// The timeout: listing thousands of containers takes a while.
const LIMIT: Duration = Duration::from_secs(60);

/// Names of the running containers; `None` if the daemon does not tell.
pub fn running(host: &Host, client: &Client) -> Option<Vec<String>> {
    let names = client.run(host, &["ps", "--format", "{{.Names}}"], LIMIT);
    Some(names.ok()?.lines().map(str::to_owned).collect())
}

/// Containers, running or stopped, that could not start without what we set up; `None` if the
/// daemon does not tell.
pub fn dependent_containers(host: &Host, client: &Client) -> Option<Vec<String>> {
    if !host.is_live() {
        return Some(Vec::new());
    }
    let format = "{{.Name}}\t{{.HostConfig.Runtime}}\t{{json .HostConfig.DeviceRequests}}";
    let all = client.run(host, &["ps", "-aq", "--no-trunc"], LIMIT).ok()?;
    let ids: Vec<&str> = all.lines().collect();
    let mut users = Vec::new();
    // In several commands, because the length of a command line is limited.
    for some in ids.chunks(200) {
        let args = [&["inspect", "--format", format], some].concat();
        let output = client.ask_of_each(host, &args);
        users.extend(output.lines().filter_map(user));
    }
    Some(users)
}

/// Parses a line of `docker inspect`; `None` if that container does not need what we set up.
fn user(line: &str) -> Option<String> {
    let mut fields = line.splitn(3, '\t');
    let name = fields.next()?.trim_start_matches('/');
    let runtime = fields.next()?;
    let requests: Value = serde_json::from_str(fields.next()?).unwrap_or_default();
    let is_for_gpus = |request: &Value| {
        let is_cdi = request["Driver"] == "cdi"
            && request["DeviceIDs"].to_string().contains("nvidia.com/gpu");
        is_cdi || request["Capabilities"].to_string().contains("\"gpu\"")
    };
    let requests = requests.as_array().map(Vec::as_slice).unwrap_or_default();
    if runtime == SetupOptions::default().runtime_name {
        Some(format!("{name} (--runtime {runtime})"))
    } else if requests.iter().any(is_for_gpus) {
        Some(format!("{name} (--gpus or --device)"))
    } else {
        None
    }
}

/// Starts the containers that a restart stopped and that did not start by themselves. It starts all
/// that it can; the error names the others.
pub fn start_again(host: &Host, client: &Client, stopped: &[String]) -> Result<(), Error> {
    let now = running(host, client).unwrap_or_default();
    let start = |name: &String| {
        let started = client.run(host, &["start", name], LIMIT);
        started
            .err()
            .map(|why| format!("docker start {name}: {why}"))
    };
    let gone = stopped.iter().filter(|n| !now.contains(n));
    let failed: Vec<String> = gone.filter_map(start).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Error::NotStarted(failed))
}

/// What a restart stops if the daemon does not tell which containers run, as a message.
pub fn effect_of_unnamed(live_restore: bool) -> String {
    if live_restore {
        KEEP_RUNNING.into()
    } else {
        "containers stop that `docker ps` did not name (live-restore is off)".into()
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
mod tests {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::*;

    #[test]
    fn containers_that_need_our_runtime_are_distinguished_from_others() {
        let user = |rest: &str| user(&format!("/web\t{rest}"));
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
        assert_eq!(user("garbage"), None);
    }

    /// A fake docker.
    fn docker(dir: &Path, script: &str) -> PathBuf {
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
        assert_eq!(users.unwrap(), ["web (--runtime nvidia)"]);
    }

    /// A container that was removed when it ended (`--rm`) does not prevent the others from being
    /// started.
    #[test]
    fn a_container_that_cannot_restart_does_not_stop_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let started = dir.path().join("started");
        let script = format!(
            "case $3 in\n\
             ps) echo up ;;\n\
             start) [ $4 != gone ] || {{ echo 'No such container: gone' >&2; exit 1; }}; echo $4 >>{} ;;\n\
             esac\n",
            started.display()
        );
        let host = Host::open(Path::new("/"), Path::new("/")).unwrap();
        let client = Client::by(&docker(dir.path(), &script));
        let names = ["up", "gone", "web"].map(str::to_owned);
        let message = start_again(&host, &client, &names).unwrap_err().to_string();
        assert!(
            message.contains("docker start gone: No such container"),
            "{message}"
        );
        assert_eq!(std::fs::read_to_string(started).unwrap(), "web\n");
    }

    /// A daemon that answers `info` but not `ps` may have any number of containers.
    #[test]
    fn a_missing_answer_does_not_mean_no_containers() {
        let host = Host::open(Path::new("/"), Path::new("/")).unwrap();
        let silent = Client::by(Path::new("/bin/false"));
        assert_eq!(running(&host, &silent), None);
        assert_eq!(dependent_containers(&host, &silent), None);
        assert!(effect_of_unnamed(false).contains("stop"));
        assert!(effect_of_unnamed(true).contains("keep running"));
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
