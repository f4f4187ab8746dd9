//! Sends messages to systemd's journal, and reports failures there and elsewhere.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use gpu_inject::Error;
use gpu_inject::policy::Level;

use super::advice::Advised;
use super::message::{bounded, say};
use super::runtime_log;

/// A connection to systemd's journal by its native protocol (`systemd.io/JOURNAL_NATIVE_PROTOCOL`); `None` if no
/// journal is listening. A hook opens it before it drops the right to make sockets.
pub(super) struct SystemdJournal(Option<UnixDatagram>);

const JOURNAL: &str = "/run/systemd/journal/socket";

impl SystemdJournal {
    pub(super) fn open() -> Self {
        Self::at(JOURNAL)
    }

    fn at(path: &str) -> Self {
        let socket = UnixDatagram::unbound().and_then(|socket| {
            // A busy journal must not delay a container's start.
            socket.set_nonblocking(true)?;
            socket.connect(path)?;
            Ok(socket)
        });
        Self(socket.ok())
    }

    /// Whether a journal is listening.
    pub(super) fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Sends a message. Line breaks are replaced, because the simple form of a field cannot have any.
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

    /// Reports a failure on standard error, in the journal and in the runtime's log, of which engines
    /// show the last `"level":"error"` line (containerd go-runc, `getLastRuntimeError`). The line
    /// names the container and where to find more.
    pub(super) fn failure(&self, error: &Error, container: Option<&str>, log: Option<&Path>) {
        let text = self.with_details(&bounded(Advised(error)), container);
        say(&format!("gpu-container: {text}"));
        self.send(Level::Error, container, &text);
        // If the log cannot be written, standard error has the message anyway.
        if let Some(log) = log {
            runtime_log::append(log, Level::Error, &text);
        }
    }

    /// Appends the container and where to find more. At the end, since programs match the start of messages.
    fn with_details(&self, why: &str, container: Option<&str>) -> String {
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

/// A container id shortened as docker and crictl do; a name is returned whole.
fn short(id: &str) -> &str {
    let is_long = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
    if is_long { &id[..12] } else { id }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_gets_the_message_and_the_container() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let id = "0123456789ab".to_owned() + &"c".repeat(52);
        let syslog = SystemdJournal::at(path.to_str().unwrap());
        // The explanation of an invalid host file can have several lines.
        let failed = Error::Policy {
            path: "/c".into(),
            why: "no\nGPU".into(),
        };
        syslog.failure(&failed, Some(&id), None);
        let mut received = [0; 4096];
        let length = journal.recv(&mut received).unwrap();
        let received = String::from_utf8_lossy(&received[..length]);
        let expected = format!(
            "SYSLOG_IDENTIFIER=gpu-container\nPRIORITY=3\nMESSAGE=/c: no GPU [container 0123456789ab; \
             more: journalctl -t gpu-container; gpusetup doctor]\nCONTAINER_ID_FULL={id}\n"
        );
        assert_eq!(received, expected);
    }

    #[test]
    fn without_a_journal_the_message_does_not_mention_it() {
        let nowhere = SystemdJournal::at("/nowhere/socket");
        nowhere.send(Level::Warning, None, "nobody hears it");
        let text = nowhere.with_details("no GPU", Some("web"));
        assert_eq!(text, "no GPU [container web; more: gpusetup doctor]");
    }
}
