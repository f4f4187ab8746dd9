//! What happened, where an engine or an administrator will look for it.

mod out;

use std::fmt::{Arguments, Display, Write as _};
use std::io::{Write as _, stderr, stdout};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use cdi::{Breaks, Line};
use gpu_inject::policy::Level;
use gpu_inject::{Error, Excerpt, Message};

pub(crate) use out::{LogFile, output};

/// What one message has at most, whatever is in it: on standard error, in the journal and in a
/// log. Behind [`Excerpt`] and [`Message`] the second wall; a list of GPUs may be long.
const MOST: usize = 3000;

/// systemd's journal, by its native protocol (`systemd.io/JOURNAL_NATIVE_PROTOCOL`); nothing where
/// none listens. A hook opens it before it gives up making sockets.
struct Syslog(Option<UnixDatagram>);

const JOURNAL: &str = "/run/systemd/journal/socket";

impl Syslog {
    fn open() -> Self {
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

    /// A field has no line break in this form; none of ours needs one.
    fn send(&self, level: Level, container: Option<&str>, text: &str) {
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
    fn failure(&self, error: &Error, container: Option<&str>, log: Option<&Path>) {
        let text = self.told(&bounded(error), container);
        say(&format!("gpu-container: {text}"));
        self.send(Level::Error, container, &text);
        // Where the log cannot be written, standard error has it.
        if let Some(mut file) = log.and_then(opened) {
            file.add(&line(Level::Error, &text));
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

/// A line for whoever reads standard output. Nobody may be; `println` would panic, or wait.
pub(crate) fn tell(text: &str) {
    out::message(stdout(), text);
}

/// The same on standard error. Of a text that is not all ours, no more than [`bounded`] lets
/// through.
pub(crate) fn say(text: &str) {
    out::message(stderr(), text);
}

/// A short line by somebody who has no memory for it.
pub(crate) fn say_short(text: Arguments<'_>) {
    let mut room = [0; 200];
    let mut rest = &mut room[..];
    let _ = writeln!(rest, "{text}");
    let length = 200 - rest.len();
    out::piece(stderr(), &room[..length]);
}

/// When this program ends or becomes another: what was dropped is told, if there is room now.
pub(crate) fn end() {
    out::tell_dropped(stderr());
}

/// A text with an end and without control characters but line breaks.
pub(crate) fn bounded(text: impl Display) -> String {
    let mut line = Line::up_to(MOST, Breaks::Kept);
    // Where it is full it says so itself.
    let _ = write!(line, "{text}");
    line.into_text()
}

/// As docker and crictl show an id; a name stays whole.
fn short(id: &str) -> &str {
    let is_long = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
    if is_long { &id[..12] } else { id }
}

/// The journal of this process, and the container that it is about.
static SYSLOG: OnceLock<Syslog> = OnceLock::new();
static CONTAINER: OnceLock<String> = OnceLock::new();

/// Where inherited descriptors are closed, before a hook gives up making sockets.
pub(crate) fn open() {
    let _ = SYSLOG.set(Syslog::open());
}

/// From here on it is about that container.
pub(crate) fn about(container: &str) {
    let _ = CONTAINER.set(Excerpt::of(container).to_string());
}

fn container() -> Option<&'static str> {
    CONTAINER.get().map(String::as_str)
}

/// What was left undone in a container that starts all the same.
pub(crate) fn notes(notes: &[Message]) {
    for note in notes {
        warning(note);
    }
}

/// What only a search for a fault asks for: the journal keeps it where it keeps such.
pub(crate) fn debug(lines: &[String]) {
    for line in lines {
        let syslog = SYSLOG.get_or_init(Syslog::open);
        syslog.send(Level::Debug, container(), line);
    }
}

/// What is no reason to stop: for the journal. Standard error is for what fails, and for all
/// where there is no journal.
pub(crate) fn warning(text: impl Display) {
    let text = bounded(text);
    let syslog = SYSLOG.get_or_init(Syslog::open);
    if syslog.0.is_none() {
        say(&format!("gpu-container: {text}"));
    }
    syslog.send(Level::Warning, container(), &text);
}

/// The same, in the runtime's log too.
pub(crate) fn warning_in(log: Option<&Path>, text: &Message) {
    warning(text);
    if let Some(mut file) = log.and_then(opened) {
        file.add(&line(Level::Warning, text));
    }
}

/// What ends this program, on standard error, in the journal and in the runtime's log.
pub(crate) fn failure(error: &Error, log: Option<&Path>) {
    let syslog = SYSLOG.get_or_init(Syslog::open);
    syslog.failure(error, container(), log);
}

/// The runtime's own log, of `nvidia-container-runtime.debug`.
pub(crate) struct Journal {
    file: Option<LogFile>,
    least: Level,
}

impl Journal {
    /// Opened only where there is one to write. One that cannot be written keeps no
    /// container from starting.
    pub(crate) fn open(path: Option<&Path>, least: Level) -> Self {
        Self {
            file: path.and_then(opened),
            least,
        }
    }

    pub(crate) fn note(&mut self, level: Level, text: impl Display) {
        let Some(file) = &mut self.file else { return };
        if level <= self.least {
            file.add(&line(level, text));
        }
    }
}

fn opened(path: &Path) -> Option<LogFile> {
    LogFile::open(path).ok().flatten()
}

/// In runc's JSON form. containerd reads the last line's time as RFC 3339, and shows nothing of
/// a log whose times it cannot read (go-runc, `getLastRuntimeError`).
fn line(level: Level, text: impl Display) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    serde_json::json!({
        "level": level.word(),
        "msg": bounded(format_args!("gpu-container: {text}")),
        "time": rfc3339(since.map_or(0, |d| d.as_secs())),
    })
    .to_string()
}

/// Seconds since 1970 as a time of UTC.
fn rfc3339(seconds: u64) -> String {
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let is_leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let mut year = 1970;
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!(
        "{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z",
        days + 1
    )
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

    #[test]
    fn times_are_as_containerd_reads_them() {
        for (seconds, wanted) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (1_795_622_995, "2026-11-25T16:09:55Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), wanted);
        }
    }
}
