//! gpusetup: GPU containers on any Linux host.
//!
//! It is a library only so that the fuzz targets can reach its parsers; the program is [`main`].
#![forbid(unsafe_code)]
#![allow(
    unreachable_pub,
    reason = "one program: pub says what a module offers the others"
)]

mod bundle;
mod cli;
mod commands;
mod doctor;
mod edit;
mod engines;
mod error;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod host;
mod model;
mod render;
mod setup;
mod terminal;
mod transaction;
mod verify;

use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::cli::args::{Cli, Command, Common};
use crate::cli::{man_pages, nvidia_ctk};
use crate::commands::session;
use crate::error::Error;
use crate::error::exit::Exit;
use crate::error::still_down;
use crate::host::{headroom, limits};
use crate::render::json;
use crate::terminal::screen::Screen;
use crate::terminal::{logging, panics, stdio};

/// Parses the command line, runs the command and returns the exit code.
pub fn main() -> ExitCode {
    panics::tell_in_a_line();
    limits::take();
    let words = match nvidia_ctk::command_line(std::env::args_os().collect()) {
        Ok(words) => words,
        Err(e) => {
            stdio::say!("{e}");
            return Exit::Failed.into();
        }
    };
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            let is_bad = e.use_stderr();
            return if is_bad { Exit::Usage } else { Exit::Done }.into();
        }
    };
    match run(&cli) {
        Ok(code) => {
            // A command that changes the host keeps its own exit code even if its output was
            // cut off. For the other commands the output is the result, so a cut is a failure.
            let is_lost = stdio::is_cut() && !cli.command.as_ref().is_some_and(Command::changes);
            let code = if is_lost { Exit::Failed } else { code };
            log::info!("exit {}", code.number());
            code.into()
        }
        Err(e) => {
            tell(&e, &cli.common);
            e.exit().into()
        }
    }
}

fn run(cli: &Cli) -> Result<Exit, Error> {
    let common = &cli.common;
    headroom::ensure_memory_to_look()?;
    let is_run =
        common.root == Path::new("/") && cli.command.as_ref().is_some_and(Command::changes);
    logging::start(is_run, common.verbose, common.log_file.as_deref())?;
    match &cli.command {
        Some(Command::Completions { shell }) => {
            // Generated in memory first: clap panics if the reader has closed the pipe.
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "gpusetup", &mut script);
            stdio::result(&String::from_utf8_lossy(&script));
            return Ok(Exit::Done);
        }
        Some(Command::Man { pages: Some(dir) }) => {
            man_pages::pages(dir).map_err(Error::file(dir, "write pages to"))?;
            return Ok(Exit::Done);
        }
        Some(Command::Man { pages: None }) => {
            let page =
                man_pages::page().map_err(Error::file(Path::new("the manual page"), "make"))?;
            stdio::result(&String::from_utf8_lossy(&page));
            return Ok(Exit::Done);
        }
        _ => {}
    }
    let mut host = session::open_host(common)?;
    let Some(command) = &cli.command else {
        return commands::status::run(&host, common);
    };
    if let Command::Plan(args) | Command::Install(args) = command
        && args.image
    {
        host = host.into_image();
    }
    match command {
        Command::Detect | Command::Completions { .. } | Command::Man { .. } => {
            commands::detect::run(&host, common)
        }
        Command::Plan(args) => commands::install::plan(&host, common, args),
        Command::Install(args) => commands::install::install(&host, common, args),
        Command::Verify(args) => commands::verify::run(&host, common, args),
        Command::AskNvml { library, links } => commands::ask_nvml::run(library, *links),
        Command::References(args) => commands::references::run(&host, common, args),
        Command::Recover(args) => commands::recover::run(&host, common, args),
        Command::Undo(args) => commands::undo::run(&host, common, args),
        Command::Doctor(args) => commands::doctor::run(&host, common, args),
        Command::Bundle(args) => commands::bundle::run(&host, common, args),
        Command::Cdi(command) => commands::cdi::run(&host, common, command),
        Command::Config(command) => commands::config::run(&host, common, command),
        Command::System(command) => commands::system::run(&host, common, command),
    }
}

/// Logs and prints an error: cause and fix, no backtrace. With `--json` also as a document.
fn tell(error: &Error, common: &Common) {
    match error.fix() {
        Some(fix) => log::error!("exit {}: {error}; fix: {fix}", error.exit().number()),
        None => log::error!("exit {}: {error}", error.exit().number()),
    }
    let screen = Screen::error(common.plain);
    let paragraph = |first: &str, text: &str| {
        stdio::say!(@ "{}", screen.paragraph(first, first.len(), text));
    };
    match error {
        // The cause was already printed when the step failed.
        Error::RolledBack(_) => {
            let fix = error.fix().unwrap_or_default();
            paragraph(
                "",
                format!("Nothing was changed. {}", sentence(&fix)).trim_end(),
            );
        }
        Error::TakenOut { engines, .. } => {
            let engines = engines.join(", ");
            let fix = sentence(&error.fix().unwrap_or_default());
            let text = format!(
                "Everything was put back; what an earlier run had written for {engines} is taken out again, too. {fix}"
            );
            paragraph("", text.trim_end());
        }
        Error::Interrupted => paragraph("", "Interrupted: nothing was changed."),
        Error::ContainersDown { cause, down } => {
            // As above: the cause was already printed.
            let first = match cause {
                Some(_) => "Everything was put back, but",
                None => "The earlier run was put back, but",
            };
            paragraph("", &format!("{first} {}.", still_down::with_command(down)));
        }
        Error::RollbackIncomplete { cause, left } => {
            paragraph("gpusetup: ", &cause.to_string());
            paragraph("", "Not everything could be put back. By hand:");
            for one in left {
                paragraph("  - ", one);
            }
        }
        _ => {
            paragraph("gpusetup: ", &error.to_string());
            if let Some(fix) = error.fix() {
                for (n, line) in fix.lines().enumerate() {
                    paragraph(if n == 0 { "  fix: " } else { "" }, line);
                }
            }
        }
    }
    if common.json {
        stdio::result(&format!("{}\n", json::failure(error)));
    }
}

/// The text as a sentence: with a capital letter at the start and a full stop at the end.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).chain(['.']).collect(),
        None => String::new(),
    }
}
