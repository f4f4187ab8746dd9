//! What happened, where an engine or an administrator will look for it.

mod journald;
mod message;
mod out;
mod runtime_log;

use std::fmt::Display;
use std::io::stderr;
use std::path::Path;
use std::sync::OnceLock;

use gpu_inject::policy::Level;
use gpu_inject::{Error, Excerpt, Message};

use journald::Syslog;
pub(crate) use message::{bounded, say, say_short, tell};
pub(crate) use out::{LogFile, output};
pub(crate) use runtime_log::Journal;

/// When this program ends or becomes another: what was dropped is told, if there is room now.
pub(crate) fn end() {
    out::tell_dropped(stderr());
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
    if !syslog.is_there() {
        say(&format!("gpu-container: {text}"));
    }
    syslog.send(Level::Warning, container(), &text);
}

/// The same, in the runtime's log too.
pub(crate) fn warning_in(log: Option<&Path>, text: &Message) {
    warning(text);
    if let Some(log) = log {
        runtime_log::append(log, Level::Warning, text);
    }
}

/// What ends this program, on standard error, in the journal and in the runtime's log.
pub(crate) fn failure(error: &Error, log: Option<&Path>) {
    let syslog = SYSLOG.get_or_init(Syslog::open);
    syslog.failure(error, container(), log);
}
