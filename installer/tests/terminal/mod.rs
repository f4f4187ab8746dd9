//! Runs gpusetup on a pseudo-terminal: types input and reads the screen.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "shared by test programs that use parts of it"
)]

pub mod picture;

use std::io::{ErrorKind, Read, Write};
use std::num::NonZero;
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::unistd;
use pty_process::Size;
use pty_process::blocking::{Command, Pts, Pty, open};

/// Time limit for a wait: longer than any step takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
/// Enough rows for everything that is shown.
const ROWS: u16 = 200;

/// A byte that no program writes, which marks the end of this one's output.
const END: u8 = 0;

/// Ctrl-C, as the keyboard sends it.
pub const CTRL_C: &str = "\x03";

/// The properties of a terminal.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub columns: u16,
    pub term: &'static str,
    pub locale: &'static str,
    pub no_color: bool,
}

pub const WIDE: Kind = Kind {
    columns: 80,
    term: "xterm-256color",
    locale: "C.UTF-8",
    no_color: false,
};

/// A text of one style: `bold red`.
#[derive(Clone, Debug)]
pub struct Span {
    pub style: String,
    pub text: String,
}

pub struct Terminal {
    pty: Arc<Pty>,
    /// The program's end of the terminal, which we keep open too. Once it is closed everywhere, the
    /// kernel answers a read with EIO, even if the last output is still on its way (`n_tty_read`
    /// checks for a closed end after it has checked for input). On a busy machine a program's last
    /// output would sometimes be lost.
    pts: Pts,
    child: Child,
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
    kind: Kind,
}

impl Terminal {
    /// Starts a program on a terminal, without our environment.
    pub fn start(kind: Kind, argv: &[&str]) -> Self {
        let (pty, pts) = open().unwrap();
        pty.resize(Size::new(ROWS, kind.columns)).unwrap();
        let mut command = Command::new(argv[0])
            .args(&argv[1..])
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("TERM", kind.term)
            .env("LANG", kind.locale);
        if kind.no_color {
            command = command.env("NO_COLOR", "1");
        }
        let child = command.spawn_borrowed(&pts).unwrap();
        let pty = Arc::new(pty);
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let reader = std::thread::spawn({
            let (pty, bytes) = (Arc::clone(&pty), Arc::clone(&bytes));
            move || {
                let mut part = [0; 4096];
                loop {
                    let came = match (&*pty).read(&mut part) {
                        Ok(n) => &part[..n],
                        Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                        // EIO: this terminal was dropped before its program ended.
                        Err(_) => return,
                    };
                    let end = came.iter().position(|b| *b == END);
                    let came = &came[..end.unwrap_or(came.len())];
                    bytes.lock().unwrap().extend_from_slice(came);
                    if end.is_some() {
                        return;
                    }
                }
            }
        });
        Self {
            pty,
            pts,
            child,
            bytes,
            reader: Some(reader),
            kind,
        }
    }

    pub fn send(&self, keys: &str) {
        (&*self.pty).write_all(keys.as_bytes()).unwrap();
    }

    /// The program's output as it was written.
    pub fn raw(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    fn parsed(&self) -> vt100::Parser {
        let size = |n| NonZero::new(n).unwrap();
        let (rows, columns) = (size(ROWS), size(self.kind.columns));
        let mut parser = vt100::Parser::new(rows, columns, 0);
        parser.process(&self.bytes.lock().unwrap());
        parser
    }

    /// The text on the screen.
    pub fn text(&self) -> String {
        self.parsed().screen().contents()
    }

    /// Expects that the screen shows a text, however its lines are wrapped.
    pub fn must_say(&self, what: &str) {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = self.text();
        assert!(
            words(&text).contains(&words(what)),
            "no {what:?} in\n{text}"
        );
        assert!(!self.cursor_is_hidden() || !self.is_over());
    }

    fn is_over(&self) -> bool {
        self.reader.is_none()
    }

    pub fn columns(&self) -> u16 {
        self.kind.columns
    }

    pub fn cursor_is_hidden(&self) -> bool {
        self.parsed().screen().hide_cursor()
    }

    /// The rows of the screen, each as texts of one style.
    pub fn spans(&self) -> Vec<Vec<Span>> {
        let parser = self.parsed();
        let mut rows: Vec<Vec<Span>> = Vec::new();
        for row in 0..ROWS {
            let mut spans: Vec<Span> = Vec::new();
            for column in 0..self.kind.columns {
                let Some(cell) = parser.screen().cell(row, column) else {
                    continue;
                };
                let text = if cell.has_contents() {
                    cell.contents()
                } else {
                    " "
                };
                let style = style_of(cell);
                match spans.last_mut() {
                    Some(last) if last.style == style => last.text.push_str(text),
                    _ => spans.push(Span {
                        style,
                        text: text.to_owned(),
                    }),
                }
            }
            rows.push(spans);
        }
        rows
    }

    /// The screen as text, with `{red:…}` for a coloured part.
    pub fn coloured(&self) -> String {
        let mut out = String::new();
        for row in self.spans() {
            let mut line = String::new();
            for Span { style, text } in row {
                line.push_str(&match style.as_str() {
                    "" => text,
                    style => format!("{{{style}:{text}}}"),
                });
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out.trim_end().to_owned() + "\n"
    }

    /// Waits until the screen shows a text.
    pub fn wait_for(&self, what: &str) {
        self.wait_until(what, || self.text().contains(what));
    }

    /// Waits until a text was written, even if it was drawn over since.
    pub fn wait_for_raw(&self, what: &str) {
        self.wait_until(what, || self.raw().contains(what));
    }

    fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) {
        let end = Instant::now() + LIMIT;
        while !is_so() {
            assert!(Instant::now() < end, "no {what:?} in\n{}", self.text());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the program's end and returns its exit code.
    pub fn end(&mut self) -> Option<i32> {
        let end = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "does not end:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(10));
        };
        if let Some(reader) = self.reader.take() {
            // The mark comes after everything that the program has written.
            assert_eq!(unistd::write(&self.pts, &[END]), Ok(1));
            reader.join().unwrap();
        }
        status.code()
    }
}

fn style_of(cell: &vt100::Cell) -> String {
    let mut words = Vec::new();
    words.extend(cell.bold().then_some("bold"));
    words.extend(cell.dim().then_some("dim"));
    match cell.fgcolor() {
        vt100::Color::Idx(1) => words.push("red"),
        vt100::Color::Idx(2) => words.push("green"),
        vt100::Color::Idx(3) => words.push("yellow"),
        vt100::Color::Idx(6) => words.push("cyan"),
        vt100::Color::Default => {}
        other => panic!("a colour that is not of the eight: {other:?}"),
    }
    words.join(" ")
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
