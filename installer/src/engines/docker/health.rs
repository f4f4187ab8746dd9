//! Checks that a Docker accepts the written file and, after a restart or reload, answers and uses it.

use std::path::Path;
use std::time::{Duration, Instant};

use super::client::{Client, DaemonInfo};
use super::daemon_json::DaemonJson;
use super::reload;
use crate::error::Error;
use crate::error::engine_fault::EngineFault;
use crate::host::Host;
use crate::host::systemd_unit::Unit;
use crate::model::setup_options::SetupOptions;

/// Waits until dockerd uses the configuration; an error contains its answer. `file` is the configuration as it is
/// now, if it can be read.
pub fn wait(
    host: &Host,
    client: &Client,
    file: Option<&DaemonJson>,
    is_of_user: bool,
) -> Result<(), Error> {
    let started = Instant::now();
    loop {
        // A reload continues after `systemctl reload` has ended (moby #47353), and its failure is reported only in
        // the log.
        let user = if is_of_user { " --user" } else { "" };
        let fix = format!(
            "`journalctl{user} -u docker` says why; `systemctl{user} cat docker` shows what file it reads"
        );
        let (fault, limit) = match client.try_info(host) {
            Ok(info) => match file.and_then(|file| disagrees(file, &info)) {
                None => return Ok(()),
                Some(how) => (
                    EngineFault::OtherConfig { how, fix },
                    Duration::from_secs(10),
                ),
            },
            Err(message) => {
                let fix = Some(fix);
                (
                    EngineFault::NotBack { said: message, fix },
                    Duration::from_secs(60),
                )
            }
        };
        if started.elapsed() >= limit {
            return Err(Error::engine("docker", fault));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Runs the checker of that dockerd on the file; an error contains its answer.
pub fn ensure_valid(host: &Host, dockerd: &Path, config: &Path, unit: &Unit) -> Result<(), Error> {
    let (dockerd, file) = (dockerd.display().to_string(), config.display().to_string());
    let mut argv = vec![&*dockerd, "--validate", "--config-file", &file];
    // With the flags of its unit, it also reports keys that are set both by flag and in the file.
    let is_dockerd = unit.program().is_some_and(|p| p.ends_with("/dockerd"));
    if is_dockerd && unit.flag("--config-file").is_none() {
        argv.extend(unit.arguments());
    }
    let out = host.run(&argv, Duration::from_secs(30))?;
    if out.has_succeeded() {
        return Ok(());
    }
    let message = out.last_line().to_owned();
    Err(Error::engine(
        "dockerd",
        EngineFault::Refuses { said: message },
    ))
}

/// How our part of the file differs from what the daemon uses; `None` if it does not.
pub fn disagrees(file: &DaemonJson, info: &DaemonInfo) -> Option<String> {
    let place = file.path.display();
    let ours = SetupOptions::default().runtime_name;
    let path = file.runtimes().find(|(name, _)| *name == ours);
    let known = info.runtimes.get(&ours).map(String::as_str);
    if path.is_some_and(|(_, path)| Some(path) != known) {
        return Some(format!("does not know runtime {ours:?} of {place}"));
    }
    let default = file.get(&["default-runtime"])?.as_str()?;
    let is = &info.default_runtime;
    let is_of_us = default == ours || *is == ours;
    (is_of_us && default != is)
        .then(|| format!("its default runtime is {is:?}, not {default:?} as in {place}"))
}

/// What of ours the daemon has that is neither in its file nor given by a flag of its unit; `None` if it has nothing.
pub fn has_more(host: &Host, file: &DaemonJson, unit: &Unit, info: &DaemonInfo) -> Option<String> {
    let wanted = SetupOptions::default();
    let name = &wanted.runtime_name;
    if reload::keeps_our_default(file, unit, info) {
        return Some(format!("runtime {name:?} is still its default"));
    }
    let path = info.runtimes.get(name);
    let knows = path.is_some_and(|path| wanted.is_our_shim(host, path));
    let is_in_file = file.get(&["runtimes", name]).is_some();
    (knows && !is_in_file && unit.where_is("--add-runtime").is_none())
        .then(|| format!("it still knows runtime {name:?}"))
}
