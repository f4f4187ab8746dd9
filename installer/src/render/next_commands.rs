//! The commands that the state of the host suggests next.

use super::status::labelled;
use crate::setup::status::{EngineStatus, HostStatus, SetupState};
use crate::terminal::screen::Screen;

impl HostStatus {
    /// The commands to run next, one on each line; empty if gpusetup can do nothing here. For a user who has an engine of
    /// their own, they are about that one.
    pub fn next(&self, screen: Screen) -> String {
        let is_known = self.inventory.driver.is_some() && self.unknown.is_none();
        let ours = || self.engines.iter().filter(|e| e.engine.is_ours());
        let own: Vec<&EngineStatus> = ours().filter(|e| e.engine.is_of_user()).collect();
        if !is_known || ours().next().is_none() {
            return String::new();
        }
        let commands = if own.is_empty() {
            if !self.without_root.is_empty() {
                return String::new();
            }
            self.commands("sudo ", &ours().collect::<Vec<_>>())
        } else if !self.lacks.is_empty() {
            vec![
                ("sudo gpusetup install".to_owned(), "describe the GPUs"),
                ("gpusetup install".to_owned(), "then set up your own engine"),
            ]
        } else {
            self.commands("", &own)
        };
        let lines = commands.iter().enumerate().map(|(n, (command, what))| {
            let label = if n == 0 { "Next" } else { "" };
            labelled(screen, label, &format!("{command:<23}{what}"))
        });
        lines.collect()
    }

    /// The commands to run next for these engines, and what each is for; `sudo` stands before those that need it.
    fn commands(&self, sudo: &str, engines: &[&EngineStatus]) -> Vec<(String, &'static str)> {
        let reached = engines.iter().filter(|e| e.engine.is_reached());
        let reached: Vec<&SetupState> = reached.map(|e| &e.setup).collect();
        let is_configured = reached.iter().all(|s| **s == SetupState::Configured);
        let with_sudo = |command: &str| format!("{sudo}gpusetup {command}");
        if self.state.interrupted.is_some() {
            vec![
                (with_sudo("recover"), "end the earlier run"),
                ("gpusetup plan".to_owned(), "what would change"),
            ]
        } else if is_configured && self.state.doable().next().is_some() {
            vec![
                ("gpusetup plan".to_owned(), "what a restart stops"),
                (with_sudo("install"), "restart what is due"),
            ]
        } else if is_configured {
            vec![
                (with_sudo("doctor"), "if something is wrong"),
                (with_sudo("undo"), "back to before"),
            ]
        } else if reached.iter().all(|s| **s != SetupState::New) {
            vec![
                (with_sudo("plan"), "what is out of date"),
                (with_sudo("install"), "renew it"),
            ]
        } else {
            vec![
                (with_sudo("plan"), "what would change"),
                (with_sudo("install"), "do it"),
            ]
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::host::Host;
    use crate::host::user::User;
    use crate::model::change::{Change, MergeKind};

    #[test]
    fn a_user_s_next_command_is_about_their_own_engine() {
        let dir = tempfile::tempdir().unwrap();
        let unit = dir.path().join("home/alice/.config/systemd/user");
        fs::create_dir_all(&unit).unwrap();
        fs::write(
            unit.join("docker.service"),
            "[Service]\nExecStart=/usr/bin/dockerd-rootless.sh\n",
        )
        .unwrap();
        for program in ["usr/bin/dockerd", "usr/bin/podman"] {
            fs::create_dir_all(dir.path().join("usr/bin")).unwrap();
            fs::write(dir.path().join(program), "").unwrap();
        }
        let next = |user: Option<User>, is_described: bool| {
            let mut host = Host::open(dir.path(), Path::new("/")).unwrap();
            if let Some(user) = user {
                host = host.seen_by(user);
            }
            let mut status = HostStatus::of(&host).unwrap();
            status.inventory.driver = Some(gpu_host::Driver::default());
            status.without_root = Vec::new();
            if !is_described {
                status.lacks.push(Change {
                    path: "/var/run/cdi/nvidia.yaml".into(),
                    before: None,
                    after: None,
                    mode: 0o644,
                    why: String::new(),
                    kind: MergeKind::Generated,
                });
            }
            status.next(Screen::output(true))
        };
        let alice = || {
            let passwd = "alice:x:1000:1000::/home/alice:/bin/sh";
            Some(User::new(1000, passwd, |_| None))
        };
        let hers = next(alice(), true);
        assert!(
            hers.contains("gpusetup install") && !hers.contains("sudo"),
            "{hers}"
        );
        let hers = next(alice(), false);
        assert!(
            hers.starts_with("  Next     sudo gpusetup install"),
            "{hers}"
        );
        let roots = next(None, true);
        assert!(roots.contains("sudo gpusetup install"), "{roots}");
    }
}
