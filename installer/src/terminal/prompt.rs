//! Asks the user questions. They are answered with keys on a terminal that can redraw, and with
//! typed lines on one that cannot or with a screen reader.

use std::fmt;
use std::io::{BufRead, IsTerminal, Read};
use std::sync::Arc;

use dialoguer::theme::Theme;
use dialoguer::{Confirm, MultiSelect};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::error::Error;
use crate::error::invocation::Invocation;
use crate::host::signals::Interrupt;
use crate::terminal::screen::Screen;
use crate::terminal::stdio::say;

/// How often a question checks whether the user has interrupted the run.
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
/// How many bytes of an answer are read.
const LONGEST: usize = 4096;
/// Shows the cursor. dialoguer hides it and leaves it hidden when Ctrl-C ends a question.
const SHOW_CURSOR: &str = "\x1b[?25h";

/// Whether there is a terminal on which the user can answer questions.
pub fn is_possible() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks a yes-or-no question, unless `yes` answers it. Fails without a terminal.
pub fn confirmed(
    yes: bool,
    question: &str,
    screen: Screen,
    signals: &Interrupt,
) -> Result<bool, Error> {
    if yes {
        log::info!("{question} yes, by {}", Invocation::Yes);
        return Ok(true);
    }
    if !is_possible() {
        return Err(Error::NoTerminal);
    }
    let answer = if screen.redraws {
        let theme = Marked(screen);
        let confirm = Confirm::with_theme(&theme).with_prompt(question);
        keys(signals, || confirm.default(false).interact())?
    } else {
        let reply = line(&format!("{question} [y/N] "), signals)?;
        matches!(reply.to_lowercase().as_str(), "y" | "yes")
    };
    log::info!("{question} {}", if answer { "yes" } else { "no" });
    Ok(answer)
}

/// One of several things to choose from.
pub struct Choice {
    /// The name to type for it.
    pub name: String,
    /// A description.
    pub about: String,
}

/// Asks which of the choices the user wants and returns their indices. All are selected at first.
pub fn chosen(
    question: &str,
    choices: &[Choice],
    screen: Screen,
    signals: &Interrupt,
) -> Result<Vec<usize>, Error> {
    let widest = choices.iter().map(|c| c.name.len()).max().unwrap_or(0);
    let rows = choices
        .iter()
        .map(|c| format!("{:<widest$}  {}", c.name, c.about));
    if screen.redraws {
        // Each choice must fit in one row: dialoguer counts rows to draw over them.
        let rows = rows.map(|row| screen.cut(&row, screen.room(9)));
        let theme = Marked(screen);
        let select = MultiSelect::with_theme(&theme)
            .with_prompt(question)
            .items(rows)
            .defaults(&vec![true; choices.len()]);
        return keys(signals, || select.interact());
    }
    say!("{question}");
    for row in rows {
        say!(@ "{}", screen.paragraph("  ", widest + 4, &row));
    }
    loop {
        let reply = line("Leave out (names, or Enter for none): ", signals)?;
        let words: Vec<&str> = reply
            .split([' ', ','])
            .filter(|word| !word.is_empty())
            .collect();
        let Some(unknown) = words.iter().find(|w| choices.iter().all(|c| c.name != **w)) else {
            let stays = |n: &usize| !words.contains(&choices[*n].name.as_str());
            return Ok((0..choices.len()).filter(stays).collect());
        };
        say!("{unknown} is none of them.");
    }
}

/// Asks a question that is answered with keys.
fn keys<T>(
    signals: &Interrupt,
    ask: impl FnOnce() -> Result<T, dialoguer::Error>,
) -> Result<T, Error> {
    let _quiet = Quiet::new();
    // A Ctrl-C pressed before this point is a recorded signal; from here on it is a key.
    signals.ensure_none()?;
    let answer = ask().map_err(|dialoguer::Error::IO(e)| match e.kind() {
        std::io::ErrorKind::Interrupted => Error::Interrupted,
        _ => Error::NoAnswer(Arc::new(e)),
    });
    if answer.is_err() {
        say!("{SHOW_CURSOR}");
    }
    signals.ensure_none()?;
    answer
}

/// Turns off the terminal's echo and signals until it is dropped. An echoed key would confuse
/// dialoguer, which counts the lines that it draws over. Ctrl-C must be a key: dialoguer begins to
/// read a moment after it shows the question, and a signal in that moment would only be noted while
/// dialoguer waits for another key.
struct Quiet(Option<Termios>);

impl Quiet {
    fn new() -> Self {
        let before = tcgetattr(std::io::stdin()).ok();
        if let Some(mut now) = before.clone() {
            now.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
            // If the terminal does not support this, the question is asked even so.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &now);
        }
        Self(before)
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Reads a typed line. Waits with poll(2), because a recorded signal does not interrupt a read.
fn line(question: &str, signals: &Interrupt) -> Result<String, Error> {
    say!(@ "{question}");
    let stdin = std::io::stdin();
    loop {
        if let Err(interrupted) = signals.ensure_none() {
            say!();
            return Err(interrupted);
        }
        let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
        if poll(&mut fds, Some(&TICK)).unwrap_or(0) > 0 {
            break;
        }
    }
    let mut typed = String::new();
    let mut limited = stdin.lock().take(LONGEST as u64);
    match limited.read_line(&mut typed) {
        // The terminal was closed, or the user pressed Ctrl-D.
        Ok(0) => Err(Error::Interrupted),
        Ok(_) => Ok(typed.trim().to_owned()),
        Err(e) => Err(Error::NoAnswer(Arc::new(e))),
    }
}

/// The format of questions: they begin with a question mark, even after they are answered.
struct Marked(Screen);

impl Marked {
    fn ask(&self, f: &mut dyn fmt::Write, question: &str) -> fmt::Result {
        write!(f, "{} {question}", self.0.coloured("?", "36"))
    }
}

impl Theme for Marked {
    fn format_confirm_prompt(
        &self,
        f: &mut dyn fmt::Write,
        question: &str,
        _: Option<bool>,
    ) -> fmt::Result {
        self.ask(f, question)?;
        write!(f, " [y/N] ")
    }

    fn format_confirm_prompt_selection(
        &self,
        f: &mut dyn fmt::Write,
        question: &str,
        answer: Option<bool>,
    ) -> fmt::Result {
        self.ask(f, question)?;
        write!(f, "  {}", if answer == Some(true) { "yes" } else { "no" })
    }

    fn format_multi_select_prompt(&self, f: &mut dyn fmt::Write, question: &str) -> fmt::Result {
        self.ask(f, question)?;
        write!(f, " (space changes, Enter accepts)")
    }

    fn format_multi_select_prompt_item(
        &self,
        f: &mut dyn fmt::Write,
        text: &str,
        checked: bool,
        active: bool,
    ) -> fmt::Result {
        let pointer = if active { ">" } else { " " };
        let tick = if checked { "[x]" } else { "[ ]" };
        write!(f, "  {pointer} {tick} {text}")
    }

    fn format_multi_select_prompt_selection(
        &self,
        f: &mut dyn fmt::Write,
        question: &str,
        chosen: &[&str],
    ) -> fmt::Result {
        let names = chosen.iter().filter_map(|c| c.split(' ').next());
        let names: Vec<&str> = names.collect();
        self.ask(f, question)?;
        let list = if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        };
        write!(f, "  {list}")
    }
}
