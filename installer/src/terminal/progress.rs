//! Lines while a run goes on, on standard error.

use std::cell::RefCell;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::Level;

use crate::cli::args::Common;
use crate::host::signals::Interrupt;
use crate::terminal::screen::{Mark, Screen};
use crate::terminal::stdio::say;

/// What takes no longer than this needs no word of how long it takes.
const LONG: Duration = Duration::from_secs(1);
/// Takes the line away that the cursor is in.
const CLEAR: &str = "\r\x1b[K";

/// Lines while a run goes on.
pub struct Progress {
    quiet: bool,
    screen: Screen,
    doing: RefCell<Option<Doing>>,
    held: Option<Interrupt>,
}

impl Progress {
    /// As the flags and the terminal have it.
    pub fn new(common: &Common) -> Self {
        Self {
            quiet: common.quiet,
            screen: Screen::error(common.plain),
            doing: RefCell::new(None),
            held: None,
        }
    }

    /// Says of a step that goes on that it is the last one, once the user wants the run to end.
    pub fn until(self, held: &Interrupt) -> Self {
        Self {
            held: Some(held.clone()),
            ..self
        }
    }

    /// Leaves out the steps that are done.
    pub fn quiet(self) -> Self {
        Self {
            quiet: true,
            ..self
        }
    }

    fn line(&self, mark: Mark, level: Level, text: &str) {
        // First its thread ends: two would draw over each other.
        self.doing.replace(None);
        log::log!(level, "{text}");
        let first = format!("  {} ", self.screen.mark(mark));
        let indent = 2 + self.screen.mark_width();
        say!(@ "{}", self.screen.paragraph(&first, indent, text));
    }

    /// A step begins that can take a while: shown until the next line where a line can be drawn
    /// over, with the seconds once there are some. Elsewhere on a terminal it is said once, and
    /// only when it takes long.
    pub fn doing(&self, text: &str) {
        self.doing.replace(None);
        if !self.quiet && self.screen.terminal {
            self.doing
                .replace(Doing::start(self.screen, text, self.held.clone()));
        }
    }

    /// A step done.
    pub fn done(&self, text: &str) {
        if self.quiet {
            self.doing.replace(None);
            log::info!("{text}");
        } else {
            self.line(Mark::Good, Level::Info, text);
        }
    }

    /// A step failed; shown however quiet.
    pub fn failed(&self, text: &str) {
        self.line(Mark::Bad, Level::Error, text);
    }

    /// A step taken back; shown however quiet.
    pub fn back(&self, text: &str) {
        self.line(Mark::Back, Level::Warn, text);
    }

    /// A remark.
    pub fn warn(&self, text: &str) {
        self.line(Mark::Warning, Level::Warn, text);
    }
}

/// ` in 3.2 s` where it took long, else nothing.
pub fn taken(since: Instant) -> String {
    let elapsed = since.elapsed();
    if elapsed < LONG {
        return String::new();
    }
    format!(" in {:.1} s", elapsed.as_secs_f32())
}

/// A step that goes on, drawn by a thread; gone when this is dropped.
struct Doing {
    end: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    redraws: bool,
}

impl Doing {
    /// `None` where there can be no thread: nobody needs to see it.
    fn start(screen: Screen, text: &str, held: Option<Interrupt>) -> Option<Self> {
        let (end, ended) = mpsc::channel();
        let lead = format!("  {} ", screen.mark(Mark::Doing));
        // One row, or it could not be drawn over.
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
                let is_last = held.as_ref().is_some_and(|h| h.check().is_err());
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
