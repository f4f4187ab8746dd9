//! Restarts and reloads the service of an engine, through whichever manager starts it.

use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::error::engine_fault::EngineFault;
use crate::error::program_fault::ProgramFault;
use crate::host::Host;
use crate::host::last_words::LastWords;
use crate::host::process::Output;

/// Time limit for a service manager. On a busy host, an engine that stops its containers first has taken more than
/// two minutes.
const PATIENCE: Duration = Duration::from_secs(300);

/// The waits, in milliseconds, between attempts to find out why a service did not start. They add
/// up to five seconds, because nothing runs meanwhile.
const JOURNAL_NAPS: [u64; 6] = [100, 200, 400, 800, 1500, 2000];

/// A service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name for its manager: `docker.service`, `microk8s.daemon-containerd`.
    pub name: String,
    /// The manager that starts it.
    pub manager: Manager,
}

/// The program that starts a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Manager {
    /// The system's systemd.
    Systemd,
    /// The systemd of the user who runs gpusetup.
    SystemdUser,
    /// `OpenRC`, on Alpine and Gentoo.
    OpenRc,
    /// snapd.
    Snap,
}

/// How a service is made to read its files again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// It gets a request to reload and keeps running.
    Reload,
    /// It is stopped and started.
    Restart,
    /// It is stopped, because it was so before gpusetup started it.
    Stop,
}

impl Verb {
    /// `restart`
    pub fn word(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Restart => "restart",
            Self::Stop => "stop",
        }
    }

    /// `restarting`
    pub fn doing(self) -> &'static str {
        match self {
            Self::Reload => "reloading",
            Self::Restart => "restarting",
            Self::Stop => "stopping",
        }
    }

    /// `restarted`
    pub fn past_tense(self) -> &'static str {
        match self {
            Self::Reload => "reloaded",
            Self::Restart => "restarted",
            Self::Stop => "stopped",
        }
    }
}

impl Service {
    /// Restarts or reloads it.
    pub fn carry_out(&self, verb: Verb, host: &Host) -> Result<(), Error> {
        match verb {
            Verb::Reload => self.reload(host),
            Verb::Restart => self.restart(host),
            Verb::Stop => self.stop(host, false),
        }
    }

    /// A unit of the system's systemd.
    pub fn systemd(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            manager: Manager::Systemd,
        }
    }

    /// The command that restarts it, which is also shown to the user.
    pub fn restart_command(&self) -> Vec<&str> {
        self.command("restart")
    }

    /// The command that makes it read its configuration again.
    pub fn reload_command(&self) -> Vec<&str> {
        match self.manager {
            // snapd has no reload of its own.
            Manager::Snap => self.command("restart"),
            _ => self.command("reload"),
        }
    }

    fn command<'a>(&'a self, verb: &'a str) -> Vec<&'a str> {
        match self.manager {
            Manager::Systemd => vec!["systemctl", verb, &self.name],
            Manager::SystemdUser => vec!["systemctl", "--user", verb, &self.name],
            Manager::OpenRc => vec!["rc-service", &self.name, verb],
            Manager::Snap => vec!["snap", verb, &self.name],
        }
    }

    /// Restarts it, even if systemd's limit on restarts was reached. If the service does not come
    /// back, the error is what it logged.
    pub fn restart(&self, host: &Host) -> Result<(), Error> {
        // The limit counts our restarts as crashes.
        self.reset_failed(host);
        // If the command times out, the service is only slow and has not logged a failure: return
        // the timeout as the error.
        let began = SystemTime::now();
        let out = host.run(&self.restart_command(), PATIENCE)?;
        if out.has_succeeded() {
            return Ok(());
        }
        match self.last_words(host, began) {
            Some(words) => Err(self.did_not_come_back(&words, &out)),
            None => succeeded(&self.restart_command(), &out),
        }
    }

    /// Stops it, with its socket if that is to be stopped too, and makes its manager forget failed starts of ours.
    pub fn stop(&self, host: &Host, with_socket: bool) -> Result<(), Error> {
        let mut stop = self.command("stop");
        let socket = self.socket();
        // Stopped together: a client that connects to the socket in between would start the service.
        stop.extend(socket.as_deref().filter(|_| with_socket));
        run(host, &stop)?;
        self.reset_failed(host);
        Ok(())
    }

    /// The name of the socket that may start it; `None` if its manager has no sockets.
    pub fn socket(&self) -> Option<String> {
        self.systemctl()?;
        Some(self.name.replace(".service", ".socket"))
    }

    /// Makes systemd forget failures and starts of the service, which it counts. It fails for a unit
    /// that never failed, which does not matter.
    fn reset_failed(&self, host: &Host) {
        let (Some(mut reset), Some(socket)) = (self.systemctl(), self.socket()) else {
            return;
        };
        // A service that reaches the limit also fails its socket, which has a limit of its own.
        reset.extend(["reset-failed", &self.name, &socket]);
        let _ = host.run(&reset, Duration::from_secs(10));
    }

    /// Makes it read its configuration again.
    pub fn reload(&self, host: &Host) -> Result<(), Error> {
        run(host, &self.reload_command())
    }

    fn systemctl(&self) -> Option<Vec<&str>> {
        match self.manager {
            Manager::Systemd => Some(vec!["systemctl"]),
            Manager::SystemdUser => Some(vec!["systemctl", "--user"]),
            Manager::OpenRc | Manager::Snap => None,
        }
    }

    /// The service's last words in the journal since then; `None` if there is no journal to read.
    fn last_words(&self, host: &Host, began: SystemTime) -> Option<LastWords> {
        let since = began.duration_since(UNIX_EPOCH).ok()?;
        // Precise to the microsecond: what it logged at its previous start may be of the same
        // second.
        let since = format!("@{}.{:06}", since.as_secs(), since.subsec_micros());
        let mut argv = match self.manager {
            Manager::Systemd => vec!["journalctl", "-u"],
            Manager::SystemdUser => vec!["journalctl", "--user", "-u"],
            Manager::OpenRc | Manager::Snap => return None,
        };
        // Without `-n`: together with `--since`, systemd before 254 returns the first lines, not
        // the last (its issue 26657), and those are of the daemon that ran before.
        argv.extend([self.name.as_str(), "--since", &since]);
        argv.extend(["-o", "json", "--no-pager", "-q"]);
        // systemctl may end before journald has read what the service logged last. Only root can
        // make journald process everything.
        let _ = host.run(&["journalctl", "--sync"], Duration::from_secs(10));
        let mut naps = JOURNAL_NAPS.iter();
        loop {
            let out = host.run(&argv, Duration::from_secs(10));
            let words = out.map_or(LastWords::None, |out| LastWords::read(&out.stdout));
            match naps.next() {
                Some(nap) if words.may_be_early() => sleep(Duration::from_millis(*nap)),
                _ => return Some(words),
            }
        }
    }

    /// The error that says why it failed, or that the journal gives no reason.
    fn did_not_come_back(&self, words: &LastWords, out: &Output) -> Error {
        let engine = self.name.trim_end_matches(".service");
        let unsaid = "its journal does not say why, or not yet";
        let what = match words {
            LastWords::OfFailure(line) | LastWords::NeverRan(line) => line.clone(),
            LastWords::Other(line) => format!("{unsaid}; it said last: {line}"),
            LastWords::OfManager(line) => format!("{unsaid}: {line}"),
            // The last line only says where to look.
            LastWords::None => format!("{unsaid}: {}", out.first_line()),
        };
        let fix = Some(self.fix_for(&what));
        Error::engine(engine, EngineFault::NotBack { said: what, fix })
    }

    /// What to do about an error line of an engine's log.
    fn fix_for(&self, line: &str) -> String {
        let user = match self.manager {
            Manager::SystemdUser => " --user",
            _ => "",
        };
        if line.contains("specified both as a flag and in the configuration file") {
            return format!(
                "`systemctl{user} cat {}` shows where that flag is: take it out, then run this again",
                self.name
            );
        }
        self.log_hint()
    }

    /// Where its log can be read.
    pub fn log_hint(&self) -> String {
        match self.log_command() {
            Some(command) => format!("`{command}` has the rest"),
            None => format!("the log of {} below /var/log has the rest", self.name),
        }
    }

    /// The command that shows its log, if its manager keeps one.
    fn log_command(&self) -> Option<String> {
        let name = &self.name;
        match self.manager {
            Manager::Systemd => Some(format!("journalctl -u {name}")),
            Manager::SystemdUser => Some(format!("journalctl --user -u {name}")),
            Manager::Snap => Some(format!("snap logs {name}")),
            Manager::OpenRc => None,
        }
    }
}

/// Makes the managers of these services read their unit files again.
pub fn daemon_reload<'a>(
    host: &Host,
    services: impl Iterator<Item = &'a Service>,
) -> Result<(), Error> {
    let (mut system, mut user) = (false, false);
    for service in services {
        system |= service.manager == Manager::Systemd;
        user |= service.manager == Manager::SystemdUser;
    }
    if system {
        run(host, &["systemctl", "daemon-reload"])?;
    }
    if user {
        run(host, &["systemctl", "--user", "daemon-reload"])?;
    }
    Ok(())
}

fn run(host: &Host, argv: &[&str]) -> Result<(), Error> {
    succeeded(argv, &host.run(argv, PATIENCE)?)
}

fn succeeded(argv: &[&str], out: &Output) -> Result<(), Error> {
    if out.has_succeeded() {
        return Ok(());
    }
    let message = out.last_line().to_owned();
    Err(Error::program(
        &argv.join(" "),
        ProgramFault::Failed(message),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_values_are_left_out() {
        let docker = Service::systemd("docker.service");
        let output = "Job for docker.service failed because the control process exited with error code.\n\
                    See \"systemctl status docker.service\" for details.\n";
        let out = Output {
            code: Some(1),
            stdout: String::new(),
            stderr: output.into(),
        };
        let message = |words| docker.did_not_come_back(&words, &out).to_string();
        assert_eq!(
            message(LastWords::OfFailure("unable: EOF".into())),
            "docker did not come back: unable: EOF"
        );
        for (words, part) in [
            (LastWords::None, "control process exited"),
            (LastWords::OfManager("status=1/FAILURE".into()), "status=1"),
            (LastWords::Other("Starting up".into()), "last: Starting up"),
        ] {
            let text = message(words);
            assert!(text.contains("does not say why, or not yet"), "{text}");
            assert!(text.contains(part), "{text}");
        }
        let fix = docker.did_not_come_back(&LastWords::None, &out).fix();
        assert!(fix.is_some_and(|fix| fix.contains("journalctl -u docker.service")));
    }

    #[test]
    fn every_service_manager_has_its_own_commands() {
        let line = |name: &str, manager| {
            let service = Service {
                name: name.into(),
                manager,
            };
            (
                service.restart_command().join(" "),
                service.reload_command().join(" "),
            )
        };
        let words = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            line("docker.service", Manager::Systemd),
            words(
                "systemctl restart docker.service",
                "systemctl reload docker.service"
            )
        );
        assert_eq!(
            line("docker.service", Manager::SystemdUser).0,
            "systemctl --user restart docker.service"
        );
        assert_eq!(
            line("docker", Manager::OpenRc).0,
            "rc-service docker restart"
        );
        assert_eq!(
            line("docker.dockerd", Manager::Snap),
            words("snap restart docker.dockerd", "snap restart docker.dockerd")
        );
    }
}
