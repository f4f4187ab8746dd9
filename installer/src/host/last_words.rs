//! Finds in the journal why a service did not start.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::Value;

/// The most telling line of the journal and who wrote it. The most useful kinds come first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LastWords {
    /// The service logged a failure.
    OfFailure(String),
    /// The manager logged why the service never ran: the program is missing, a limit was reached.
    NeverRan(String),
    /// The service logged something, but no failure.
    Other(String),
    /// Only the manager logged something: that the service failed, but not why.
    OfManager(String),
    /// Nothing was logged.
    None,
}

/// An entry as `journalctl -o json` gives it.
#[derive(Deserialize)]
struct JournalEntry {
    /// A string, or an array of bytes if the message is not UTF-8.
    #[serde(rename = "MESSAGE", default)]
    message: Value,
    #[serde(rename = "MESSAGE_ID", default)]
    message_id: Option<String>,
    #[serde(rename = "SYSLOG_IDENTIFIER", default)]
    identifier: Option<String>,
    #[serde(rename = "_PID", default)]
    pid: Option<String>,
}

/// `SD_MESSAGE_UNIT_STARTING` of sd-messages.h.
const STARTING: &str = "7d4958e842da4a758f6c1cdc7b36dcc5";

impl LastWords {
    /// Reads the journal of a restart, which begins when the previous process is stopped.
    pub fn read(journal: &str) -> Self {
        let entries = journal.lines().filter_map(|l| serde_json::from_str(l).ok());
        let entries: Vec<JournalEntry> = entries.collect();
        let first = entries.iter().position(JournalEntry::starts);
        let (before, after) = entries.split_at(first.unwrap_or(0));
        // The previous process still logs while it ends, and its children may log even after that.
        let old: HashSet<&str> = before.iter().filter_map(JournalEntry::of_service).collect();
        // After the first, the manager starts the service again by itself because it failed.
        let starts: Vec<Self> = after
            .split(JournalEntry::starts)
            .map(|start| Self::of_start(start, &old))
            .collect();
        // Of equally telling lines, those of the first start are taken, because that is the start we waited for.
        let best = starts.into_iter().min_by_key(Self::rank);
        best.unwrap_or(Self::None)
    }

    fn of_start(entries: &[JournalEntry], old: &HashSet<&str>) -> Self {
        let own = || {
            let its = |e: &&JournalEntry| e.of_service().is_some_and(|pid| !old.contains(pid));
            entries.iter().filter(its).filter_map(JournalEntry::text)
        };
        let managers = || {
            let its = entries.iter().filter(|e| e.is_managers());
            its.filter_map(JournalEntry::text)
        };
        if let Some(line) = own().rfind(|l| tells_of_failure(l)) {
            return Self::OfFailure(line);
        }
        if let Some(line) = managers().find(|l| NEVER_RAN.iter().any(|w| l.contains(w))) {
            return Self::NeverRan(line);
        }
        if let Some(line) = own().next_back() {
            return Self::Other(line);
        }
        // The first such line contains the exit code.
        match managers().find(|l| l.contains("exited") || tells_of_failure(l)) {
            Some(line) => Self::OfManager(line),
            None => Self::None,
        }
    }

    /// Whether a more telling line may still be written.
    pub fn may_be_early(&self) -> bool {
        !matches!(self, Self::OfFailure(_) | Self::NeverRan(_))
    }

    fn rank(&self) -> u8 {
        match self {
            Self::OfFailure(_) => 0,
            Self::NeverRan(_) => 1,
            Self::Other(_) => 2,
            Self::OfManager(_) => 3,
            Self::None => 4,
        }
    }
}

impl JournalEntry {
    fn is_managers(&self) -> bool {
        self.identifier.as_deref() == Some("systemd")
    }

    fn starts(&self) -> bool {
        self.is_managers() && self.message_id.as_deref() == Some(STARTING)
    }

    /// The process of the service that logged this entry.
    fn of_service(&self) -> Option<&str> {
        (!self.is_managers()).then_some(self.pid.as_deref().unwrap_or_default())
    }

    fn text(&self) -> Option<String> {
        let text = match &self.message {
            Value::String(text) => text.clone(),
            Value::Array(bytes) => {
                let bytes = bytes.iter().filter_map(|b| u8::try_from(b.as_u64()?).ok());
                String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
            }
            _ => return None,
        };
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }
}

/// What systemd logs about a service whose program never ran (src/core/execute.c, job.c).
const NEVER_RAN: [&str; 5] = [
    "Failed at step",
    "Failed to run '",
    "Failed to spawn '",
    "Failed to load environment files",
    "Dependency failed",
];

fn tells_of_failure(line: &str) -> bool {
    let line = line.to_lowercase();
    // dockerd logs this at every orderly exit.
    !line.contains("error=\"<nil>\"")
        && ["fail", "error", "unable", "fatal", "panic"]
            .iter()
            .any(|word| line.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EOF: &str =
        "unable to configure the Docker daemon with file /etc/docker/daemon.json: EOF";

    fn own(pid: u32, text: &str) -> String {
        serde_json::json!({"MESSAGE": text, "SYSLOG_IDENTIFIER": "dockerd", "_PID": pid.to_string(),
            "_TRANSPORT": "stdout", "_SYSTEMD_UNIT": "docker.service"})
        .to_string()
    }

    fn manager(text: &str) -> String {
        let id = text.starts_with("Starting").then_some(STARTING);
        serde_json::json!({"MESSAGE": text, "MESSAGE_ID": id, "SYSLOG_IDENTIFIER": "systemd", "_PID": "1",
            "UNIT": "docker.service"})
        .to_string()
    }

    fn read(lines: &[String]) -> LastWords {
        LastWords::read(&lines.join("\n"))
    }

    /// A start that fails, with the lines that the service logged.
    fn start(logged: &[String]) -> Vec<String> {
        let mut lines = vec![manager("Starting docker.service - Docker...")];
        lines.extend_from_slice(logged);
        lines.extend([
            manager("docker.service: Main process exited, code=exited, status=1/FAILURE"),
            manager("docker.service: Failed with result 'exit-code'."),
            manager("Failed to start docker.service - Docker."),
        ]);
        lines
    }

    #[test]
    fn a_normal_stop_is_no_failure() {
        assert!(!tells_of_failure(
            r#"level=info msg="stopping event stream following graceful shutdown" error="<nil>""#
        ));
        assert!(tells_of_failure(EOF));
        assert!(tells_of_failure(r#"level=error msg="failed to start""#));
        assert!(tells_of_failure("Failed to listen"));
    }

    #[test]
    fn messages_of_the_service_come_before_those_of_its_manager() {
        assert_eq!(
            read(&start(&[own(7, EOF)])),
            LastWords::OfFailure(EOF.into())
        );
    }

    /// However many lines follow, the first failure is still found.
    #[test]
    fn the_first_start_decides() {
        let mut lines = start(&[own(7, EOF)]);
        lines.extend(start(&[own(8, "failed: a pid file is there")]));
        lines.extend((0..99).map(|n| own(9, &format!("level=info n={n}"))));
        assert_eq!(read(&lines), LastWords::OfFailure(EOF.into()));
        // If the first start logged nothing, the next one's lines are used.
        let mut lines = start(&[]);
        lines.extend(start(&[own(8, EOF)]));
        assert_eq!(read(&lines), LastWords::OfFailure(EOF.into()));
    }

    #[test]
    fn earlier_processes_are_ignored() {
        let old = r#"level=info msg="stopping event stream" error="context canceled""#;
        let mut lines = vec![
            manager("Stopping docker.service - Docker..."),
            own(6, "level=info msg=\"Processing signal 'terminated'\""),
            own(6, old),
        ];
        lines.extend(start(&[own(6, old)]));
        let words = read(&lines);
        assert!(matches!(words, LastWords::OfManager(_)), "{words:?}");
        assert!(words.may_be_early());
        lines.insert(6, own(7, EOF));
        assert_eq!(read(&lines), LastWords::OfFailure(EOF.into()));
    }

    #[test]
    fn the_managers_reason_is_used_if_it_gives_one() {
        let why = "docker.service: Failed at step EXEC spawning /usr/sbin/dockerd: No such file or directory";
        let words = read(&start(&[manager(why)]));
        assert_eq!(words, LastWords::NeverRan(why.into()));
        assert!(!words.may_be_early());
    }

    #[test]
    fn any_message_is_better_than_none() {
        let words = read(&start(&[own(7, "level=info msg=\"Starting up\"")]));
        assert!(matches!(&words, LastWords::Other(line) if line.contains("Starting up")));
        assert!(words.may_be_early());
    }

    #[test]
    fn a_journal_without_messages_gives_the_managers() {
        let words = read(&start(&[]));
        assert!(
            matches!(&words, LastWords::OfManager(line) if line.contains("status=1/FAILURE")),
            "{words:?}"
        );
        assert_eq!(read(&[]), LastWords::None);
        assert_eq!(read(&["-- No entries --".into()]), LastWords::None);
        assert!(LastWords::None.may_be_early());
    }

    /// The manager's lines are missing from the journal, or its systemd gives them no message ID.
    #[test]
    fn without_a_start_mark_the_whole_journal_is_used() {
        assert_eq!(read(&[own(7, EOF)]), LastWords::OfFailure(EOF.into()));
    }

    #[test]
    fn text_that_is_not_utf_8_is_read() {
        let bytes = r#"{"MESSAGE":[101,114,114,111,114,32,255],"_PID":"7"}"#;
        assert_eq!(
            read(&[bytes.into()]),
            LastWords::OfFailure("error \u{fffd}".into())
        );
    }
}
