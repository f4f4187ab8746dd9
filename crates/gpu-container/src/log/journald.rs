//! systemd's journal: what is told to it, and what else is told of a failure.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use gpu_inject::Error;
use gpu_inject::policy::Level;

use super::message::{bounded, say};
use super::runtime_log;

/// systemd's journal, by its native protocol (`systemd.io/JOURNAL_NATIVE_PROTOCOL`); nothing where
/// none listens. A hook opens it before it gives up making sockets.
pub(super) struct Syslog(Option<UnixDatagram>);

const JOURNAL: &str = "/run/systemd/journal/socket";

impl Syslog {
    pub(super) fn open() -> Self {
        Self::at(JOURNAL)
    }

    fn at(path: &str) -> Self {
        let socket = UnixDatagram::unbound().and_then(|socket| {
            // A journal that is busy must not keep a container from starting.
            socket.set_nonblocking(true)?;
            socket.connect(path)?;
            Ok(socket)
        });
        Self(socket.ok())
    }

    /// Whether a journal listens.
    pub(super) fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// A field has no line break in this form; none of ours needs one.
    pub(super) fn send(&self, level: Level, container: Option<&str>, text: &str) {
        let Some(socket) = &self.0 else { return };
        let priority = match level {
            Level::Error => 3,
            Level::Warning => 4,
            Level::Info => 6,
            Level::Debug => 7,
        };
        let plain = |text: &str| text.replace(['\n', '\t'], " ");
        let mut message = format!(
            "SYSLOG_IDENTIFIER=gpu-container\nPRIORITY={priority}\nMESSAGE={}\n",
            plain(text)
        );
        if let Some(id) = container {
            message.push_str(&format!("CONTAINER_ID_FULL={}\n", plain(id)));
        }
        let _ = socket.send(message.as_bytes());
    }

    /// One line on standard error, and one in the runtime's log: engines show the last
    /// `"level":"error"` line of it (containerd go-runc, `getLastRuntimeError`). It says which
    /// container, and where there is more.
    pub(super) fn failure(&self, error: &Error, container: Option<&str>, log: Option<&Path>) {
        let text = self.told(&bounded(error), container);
        say(&format!("gpu-container: {text}"));
        self.send(Level::Error, container, &text);
        // Where the log cannot be written, standard error has it.
        if let Some(log) = log {
            runtime_log::append(log, Level::Error, &text);
        }
    }

    /// Behind what went wrong: other programs look for how that begins.
    fn told(&self, why: &str, container: Option<&str>) -> String {
        let more = match &self.0 {
            Some(_) => "more: journalctl -t gpu-container; gpusetup doctor",
            None => "more: gpusetup doctor",
        };
        match container {
            Some(id) => format!("{why} [container {}; {more}]", short(id)),
            None => format!("{why} [{more}]"),
        }
    }
}

/// As docker and crictl show an id; a name stays whole.
fn short(id: &str) -> &str {
    let is_long = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
    if is_long { &id[..12] } else { id }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_hears_what_and_of_which_container() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let id = "0123456789ab".to_owned() + &"c".repeat(52);
        let syslog = Syslog::at(path.to_str().unwrap());
        // What explains a file of the host's has lines.
        let failed = Error::Policy {
            path: "/c".into(),
            why: "no\nGPU".into(),
        };
        syslog.failure(&failed, Some(&id), None);
        let mut heard = [0; 4096];
        let length = journal.recv(&mut heard).unwrap();
        let heard = String::from_utf8_lossy(&heard[..length]);
        let wanted = format!(
            "SYSLOG_IDENTIFIER=gpu-container\nPRIORITY=3\nMESSAGE=/c: no GPU [container 0123456789ab; \
             more: journalctl -t gpu-container; gpusetup doctor]\nCONTAINER_ID_FULL={id}\n"
        );
        assert_eq!(heard, wanted);
    }

    #[test]
    fn without_a_journal_the_line_names_none() {
        let nowhere = Syslog::at("/nowhere/socket");
        nowhere.send(Level::Warning, None, "nobody hears it");
        let told = nowhere.told("no GPU", Some("web"));
        assert_eq!(told, "no GPU [container web; more: gpusetup doctor]");
    }
}
