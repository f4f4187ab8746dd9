//! Shows the progress of a run on standard error.

use std::cell::RefCell;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::Level;

use crate::cli::args::Common;
use crate::host::signals::Interrupt;
use crate::terminal::screen::{Mark, Screen};
use crate::terminal::stdio::say;

/// Steps that take longer than this are shown with their time.
const LONG: Duration = Duration::from_secs(1);
/// Clears the line of the cursor.
const CLEAR: &str = "\r\x1b[K";

/// Shows the steps of a run.
pub struct Progress {
    quiet: bool,
    screen: Screen,
    doing: RefCell<Option<Doing>>,
    held: Option<Interrupt>,
}

impl Progress {
    /// Progress as the flags and the terminal ask for it.
    pub fn new(common: &Common) -> Self {
        Self {
            quiet: common.quiet,
            screen: Screen::error(common.plain),
            doing: RefCell::new(None),
            held: None,
        }
    }

    /// After the user interrupts the run, shows that the running step is the last one.
    pub fn until(self, held: &Interrupt) -> Self {
        Self {
            held: Some(held.clone()),
            ..self
        }
    }

    /// Stops showing the steps that are done.
    pub fn quiet(self) -> Self {
        Self {
            quiet: true,
            ..self
        }
    }

    fn line(&self, mark: Mark, level: Level, text: &str) {
        // Ends the thread of the current step first, so that they do not draw over each other.
        self.doing.replace(None);
        log::log!(level, "{text}");
        let first = format!("  {} ", self.screen.mark(mark));
        let indent = 2 + self.screen.mark_width();
        say!(@ "{}", self.screen.paragraph(&first, indent, text));
    }

    /// Begins a step that can take a while. A terminal that can redraw shows it until the next
    /// line, with the seconds it has taken. Any other terminal shows it once, if it takes long.
    pub fn doing(&self, text: &str) {
        self.doing.replace(None);
        if !self.quiet && self.screen.terminal {
            self.doing
                .replace(Doing::start(self.screen, text, self.held.clone()));
        }
    }

    /// A step is done.
    pub fn done(&self, text: &str) {
        if self.quiet {
            self.doing.replace(None);
            log::info!("{text}");
        } else {
            self.line(Mark::Good, Level::Info, text);
        }
    }

    /// A step failed; shown even if quiet.
    pub fn failed(&self, text: &str) {
        self.line(Mark::Bad, Level::Error, text);
    }

    /// A step was rolled back; shown even if quiet.
    pub fn back(&self, text: &str) {
        self.line(Mark::Back, Level::Warn, text);
    }

    /// A warning; shown even if quiet.
    pub fn warn(&self, text: &str) {
        self.line(Mark::Warning, Level::Warn, text);
    }
}

/// ` in 3.2 s` if it took long, otherwise nothing.
pub fn elapsed(since: Instant) -> String {
    let elapsed = since.elapsed();
    if elapsed < LONG {
        return String::new();
    }
    format!(" in {:.1} s", elapsed.as_secs_f32())
}

/// A step in progress, drawn by a thread until this is dropped.
struct Doing {
    end: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    redraws: bool,
}

impl Doing {
    /// `None` if no thread can be started; the step is then not shown.
    fn start(screen: Screen, text: &str, held: Option<Interrupt>) -> Option<Self> {
        let (end, ended) = mpsc::channel();
        let lead = format!("  {} ", screen.mark(Mark::Doing));
        // Cut to one row: more could not be drawn over.
        let room = screen.room(3 + screen.mark_width());
        let text = screen.cut(text, room);
        if screen.redraws {
            say!(@ "{CLEAR}{lead}{text}");
        }
        let thread = std::thread::Builder::new().spawn(move || {
            let started = Instant::now();
            while ended.recv_timeout(LONG) == Err(RecvTimeoutError::Timeout) {
                if !screen.redraws {
                    say!("{lead}{text}");
                    return;
                }
                let seconds = started.elapsed().as_secs();
                let is_last = held.as_ref().is_some_and(|h| h.ensure_none().is_err());
                let then = if is_last { ", then stops" } else { "" };
                let line = screen.cut(&format!("{text}  {seconds} s{then}"), room);
                say!(@ "{CLEAR}{lead}{line}");
            }
        });
        Some(Self {
            end: Some(end),
            thread: Some(thread.ok()?),
            redraws: screen.redraws,
        })
    }
}

impl Drop for Doing {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if self.redraws {
            say!(@ "{CLEAR}");
        }
    }
}
