//! Logs messages where engines and administrators look for them: standard error, systemd's journal, the runtime's log.

mod advice;
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

pub(crate) use advice::Advised;
use journald::SystemdJournal;
pub(crate) use message::{bounded, say, say_short, tell};
pub(crate) use out::{LogFile, output};
pub(crate) use runtime_log::DebugLog;

/// Must be called before the program ends or executes another: reports dropped messages, if they can be written now.
pub(crate) fn end() {
    out::tell_dropped(stderr());
}

/// The connection to systemd's journal, and the container that messages are about.
static JOURNAL: OnceLock<SystemdJournal> = OnceLock::new();
static CONTAINER: OnceLock<String> = OnceLock::new();

/// Connects to the journal. A hook calls it after closing inherited descriptors and before it drops the right to make
/// sockets.
pub(crate) fn open() {
    let _ = JOURNAL.set(SystemdJournal::open());
}

/// Sets the container that later messages are about.
pub(crate) fn about(container: &str) {
    let _ = CONTAINER.set(Excerpt::of(container).to_string());
}

fn container() -> Option<&'static str> {
    CONTAINER.get().map(String::as_str)
}

/// Logs warnings about a container that starts nevertheless.
pub(crate) fn notes(notes: &[Message]) {
    for note in notes {
        warning(note);
    }
}

/// Sends debug messages to the journal, which stores them if it is configured to.
pub(crate) fn debug(lines: &[String]) {
    for line in lines {
        let journal = JOURNAL.get_or_init(SystemdJournal::open);
        journal.send(Level::Debug, container(), line);
    }
}

/// Logs a warning in the journal, or on standard error if there is no journal. Otherwise standard
/// error is only for failures.
pub(crate) fn warning(text: impl Display) {
    let text = bounded(text);
    let journal = JOURNAL.get_or_init(SystemdJournal::open);
    if !journal.is_there() {
        say(&format!("gpu-container: {text}"));
    }
    journal.send(Level::Warning, container(), &text);
}

/// Logs a warning, also in the runtime's log.
pub(crate) fn warning_in(log: Option<&Path>, text: &Message) {
    warning(text);
    if let Some(log) = log {
        runtime_log::append(log, Level::Warning, text);
    }
}

/// Logs the error that ends this program, on standard error, in the journal and in the runtime's log.
pub(crate) fn failure(error: &Error, log: Option<&Path>) {
    let journal = JOURNAL.get_or_init(SystemdJournal::open);
    journal.failure(error, container(), log);
}
