//! What a service manager says of a service: whether it runs, since when, and whether it fails.
//!
//! The manager is asked before anybody talks to an engine: a client that connects to the socket of a
//! stopped Docker makes systemd start it (`docker.socket`).

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use crate::host::Host;
use crate::host::answer::{self, Answer};
use crate::host::service::{Manager, Service};

const LIMIT: Duration = Duration::from_secs(10);
/// A property that this systemd does not know is left out of its answer.
const PROPERTIES: &str = "--property=LoadState,ActiveState,SubState,Result,InvocationID,\
    ActiveEnterTimestamp,ExecMainStartTimestamp,StateChangeTimestamp,NRestarts,NeedDaemonReload";

/// The state of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceState {
    /// It runs.
    Runs(Start),
    /// Nobody has started it, or somebody has stopped it.
    Stopped,
    /// It fails to start, or ends again and again; this is what its manager says.
    Fails(String),
    /// It is just being started or stopped.
    Changes,
}

/// A start of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// systemd's identifier of this start; `None` for another manager.
    pub invocation: Option<String>,
    /// The second since 1970 in which its process was started.
    pub at: Option<u64>,
    /// The second since 1970 in which its state last changed: a reload changes it twice.
    pub changed_at: Option<u64>,
    /// How many times its manager has started it again by itself, after it ended without being told to.
    pub crashes: u32,
    /// Whether its unit or a drop-in was changed, and the manager has not read that yet.
    pub reload_pending: bool,
}

impl Service {
    /// What its manager says of it. `None` in a directory tree, or if there is no such service.
    pub fn state(&self, host: &Host) -> Answer<ServiceState> {
        if !host.is_live() {
            return Answer::None;
        }
        match self.manager {
            Manager::Systemd => systemd(host, &["systemctl"], &self.name),
            Manager::SystemdUser => systemd(host, &["systemctl", "--user"], &self.name),
            // snapd makes a unit for each of its services.
            Manager::Snap => systemd(host, &["systemctl"], &format!("snap.{}.service", self.name)),
            Manager::OpenRc => openrc(host, &self.name),
        }
    }

    /// Whether it has a socket, and that does not listen.
    pub fn is_socket_down(&self, host: &Host) -> bool {
        self.socket().is_some_and(|name| {
            let manager = self.manager;
            Self { name, manager }.is_down(host)
        })
    }

    /// Whether the manager that would start it is not there: that of a user who has no session and does not linger. Then
    /// the service does not run either, and its next start reads the files as they are.
    pub fn is_without_manager(&self, host: &Host) -> bool {
        let user = host.user().filter(|_| host.is_live());
        let Some(user) = user.filter(|_| self.manager == Manager::SystemdUser) else {
            return false;
        };
        // Where each manager listens for systemctl.
        let socket = user.runtime.join("systemd/private");
        answer::listener(&socket) == Answer::None
    }

    /// Whether it has a socket, and that listens.
    pub fn is_socket_up(&self, host: &Host) -> bool {
        self.socket().is_some_and(|name| {
            let manager = self.manager;
            let state = Self { name, manager }.state(host);
            matches!(state, Answer::Known(ServiceState::Runs(_)))
        })
    }

    /// Its main process, if systemd has one for it.
    pub fn main_process(&self, host: &Host) -> Option<u32> {
        if self.manager != Manager::Systemd || !host.is_live() {
            return None;
        }
        let argv = ["systemctl", "show", "--property=MainPID", &self.name];
        let shown = host.run(&argv, LIMIT).ok()?.stdout;
        let mut lines = shown.lines();
        let pid = lines.find_map(|l| l.strip_prefix("MainPID="))?.parse();
        pid.ok().filter(|pid| *pid != 0)
    }

    /// Whether it does not run, or there is no such service, and its manager knows that.
    pub fn is_down_or_missing(&self, host: &Host) -> bool {
        host.is_live() && (self.is_down(host) || self.state(host) == Answer::None)
    }

    /// Whether it does not run, and its manager knows that.
    pub fn is_down(&self, host: &Host) -> bool {
        let state = self.state(host);
        matches!(
            state,
            Answer::Known(ServiceState::Stopped | ServiceState::Fails(_))
        )
    }
}

/// OpenRC makes a link for each service that it has started. Whether a service without one runs, it does not tell.
fn openrc(host: &Host, name: &str) -> Answer<ServiceState> {
    let link = Path::new("/run/openrc/started").join(name);
    match Answer::from(host.root().symlink_metadata(link)) {
        Answer::Known(link) => Answer::Known(ServiceState::Runs(Start {
            at: u64::try_from(link.mtime()).ok(),
            ..Start::default()
        })),
        Answer::None => Answer::Unknown("OpenRC does not tell".into()),
        Answer::Unknown(why) => Answer::Unknown(why),
    }
}

fn systemd(host: &Host, systemctl: &[&str], unit: &str) -> Answer<ServiceState> {
    let show = ["show", PROPERTIES, "--timestamp=unix", unit];
    let argv = [systemctl, &show].concat();
    let mut out = host.run(&argv, LIMIT);
    if out.as_ref().is_ok_and(|out| !out.has_succeeded()) {
        // Before systemd 248 there is no --timestamp; nobody then knows when it started.
        let plain: Vec<&str> = argv
            .into_iter()
            .filter(|w| *w != "--timestamp=unix")
            .collect();
        out = host.run(&plain, LIMIT);
    }
    match out {
        Ok(out) if out.has_succeeded() => parsed(&out.stdout),
        Ok(out) => Answer::Unknown(out.last_line().to_owned()),
        Err(e) => Answer::Unknown(e.to_string()),
    }
}

fn parsed(shown: &str) -> Answer<ServiceState> {
    let of = |name: &str| {
        let mut lines = shown.lines();
        lines.find_map(|l| l.strip_prefix(name)?.strip_prefix('='))
    };
    let text = |name: &str| of(name).filter(|v| !v.is_empty());
    if of("LoadState") == Some("not-found") {
        return Answer::None;
    }
    let Some(active) = text("ActiveState") else {
        return Answer::Unknown("systemctl show says nothing of it".into());
    };
    let sub = text("SubState").unwrap_or_default();
    let result = text("Result").unwrap_or("failed");
    // `@1790000000`, or a date before systemd 248. 0 is no time.
    let time = |name: &str| {
        let seconds: u64 = text(name)?.strip_prefix('@')?.parse().ok()?;
        Some(seconds).filter(|s| *s > 0)
    };
    // None before systemd 235.
    let crashes: u32 = text("NRestarts").and_then(|n| n.parse().ok()).unwrap_or(0);
    Answer::Known(match (active, sub) {
        ("active" | "reloading" | "refreshing", _) => ServiceState::Runs(Start {
            invocation: text("InvocationID").map(str::to_owned),
            // A daemon reads its files before it is ready, so the start of its process counts.
            at: time("ExecMainStartTimestamp").or_else(|| time("ActiveEnterTimestamp")),
            changed_at: time("StateChangeTimestamp"),
            crashes,
            reload_pending: text("NeedDaemonReload") == Some("yes"),
        }),
        ("inactive", _) => ServiceState::Stopped,
        ("failed", _) => ServiceState::Fails(format!("it failed to start ({result})")),
        ("activating", "auto-restart" | "auto-restart-queued") => {
            ServiceState::Fails(format!("it ends again and again ({result})"))
        }
        // The start that follows such an end.
        ("activating", _) if crashes > 0 => {
            ServiceState::Fails(format!("it ends again and again ({crashes} times by now)"))
        }
        _ => ServiceState::Changes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::user::User;

    /// A user who does not linger has logged out.
    #[test]
    fn a_users_manager_that_is_not_there_is_noticed() {
        let runtime = tempfile::tempdir().unwrap();
        let text = runtime.path().display().to_string();
        let user = User::new(4711, "", |name| {
            (name == "XDG_RUNTIME_DIR").then(|| text.clone())
        });
        let host = Host::open(Path::new("/"), Path::new("/")).unwrap();
        let host = host.seen_by(user);
        let service = Service {
            name: "docker.service".into(),
            manager: Manager::SystemdUser,
        };
        assert!(service.is_without_manager(&host));
        std::fs::create_dir(runtime.path().join("systemd")).unwrap();
        let socket = runtime.path().join("systemd/private");
        let manager = std::os::unix::net::UnixListener::bind(socket).unwrap();
        assert!(!service.is_without_manager(&host));
        drop(manager);
        assert!(service.is_without_manager(&host));
        let of_system = Service::systemd("docker.service");
        assert!(!of_system.is_without_manager(&host));
    }

    fn state(active: &str, sub: &str) -> Answer<ServiceState> {
        parsed(&format!(
            "LoadState=loaded\nActiveState={active}\nSubState={sub}\nResult=exit-code\n\
             InvocationID=0a1b\nActiveEnterTimestamp=@1790000000\n"
        ))
    }

    #[test]
    fn a_service_that_fails_is_told_from_one_that_is_stopped() {
        let start = Start {
            invocation: Some("0a1b".into()),
            at: Some(1_790_000_000),
            ..Start::default()
        };
        let known = Answer::Known;
        assert_eq!(state("active", "running"), known(ServiceState::Runs(start)));
        assert_eq!(state("inactive", "dead"), known(ServiceState::Stopped));
        assert_eq!(
            state("failed", "failed"),
            known(ServiceState::Fails("it failed to start (exit-code)".into()))
        );
        assert_eq!(
            state("activating", "auto-restart"),
            known(ServiceState::Fails(
                "it ends again and again (exit-code)".into()
            ))
        );
        assert_eq!(state("activating", "start"), known(ServiceState::Changes));
    }

    #[test]
    fn a_start_after_a_crash_is_part_of_a_loop() {
        let shown = "LoadState=loaded\nActiveState=activating\nSubState=start\nNRestarts=3\n";
        assert_eq!(
            parsed(shown),
            Answer::Known(ServiceState::Fails(
                "it ends again and again (3 times by now)".into()
            ))
        );
        assert_eq!(
            parsed(&shown.replace("=3", "=0")),
            Answer::Known(ServiceState::Changes)
        );
    }

    #[test]
    fn a_start_tells_what_was_changed_since() {
        let shown = "LoadState=loaded\nActiveState=active\nSubState=running\nInvocationID=0a1b\n\
            ActiveEnterTimestamp=@1790000003\nExecMainStartTimestamp=@1790000001\n\
            StateChangeTimestamp=@1790000009\nNRestarts=2\nNeedDaemonReload=yes\n";
        let start = Start {
            invocation: Some("0a1b".into()),
            at: Some(1_790_000_001),
            changed_at: Some(1_790_000_009),
            crashes: 2,
            reload_pending: true,
        };
        assert_eq!(parsed(shown), Answer::Known(ServiceState::Runs(start)));
    }

    #[test]
    fn openrc_knows_what_it_has_started() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::open(dir.path(), Path::new("/")).unwrap();
        assert!(openrc(&host, "docker").unknown().is_some());
        let started = dir.path().join("run/openrc/started");
        std::fs::create_dir_all(&started).unwrap();
        std::os::unix::fs::symlink("/etc/init.d/docker", started.join("docker")).unwrap();
        let Answer::Known(ServiceState::Runs(start)) = openrc(&host, "docker") else {
            panic!("it runs");
        };
        assert!(start.at.is_some() && start.invocation.is_none());
    }

    #[test]
    fn a_missing_unit_and_an_empty_answer_are_different() {
        let missing = "LoadState=not-found\nActiveState=inactive\n";
        assert_eq!(parsed(missing), Answer::None);
        assert!(parsed("").unknown().is_some());
    }
}
