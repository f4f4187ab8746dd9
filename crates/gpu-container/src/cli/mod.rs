//! `gpu-container-cli`, also called `nvidia-container-cli`: lists what this host has of GPUs, and
//! gives it to a container that exists but has not started.
//!
//! LXC, Incus, Enroot, Apptainer, gVisor, `ctr run --gpus` and NVIDIA's own hook run it and parse
//! its output. Therefore commands, options, output, exit codes and the first word of each error are
//! those of libnvidia-container 1.17 to 1.19. No environment variables are read, because setuid
//! callers pass on those of their user (Apptainer `internal/pkg/util/gpu/nvidia.go`).

mod argp;
mod configure;
mod configure_options;
mod failure;
mod info;
mod inventory;
mod kmods;
mod list;
mod log;
mod options;
mod select;
mod target;
#[cfg(test)]
mod testing;

use std::ffi::OsString;
use std::fmt::Display;

use gpu_inject::Excerpt;

use crate::exit::ExitCode;
use crate::log::{bounded, output, say};
use argp::{Opt, Order, Stop};
use configure_options::{CONFIGURE, Configure};
use failure::{Failure, Phase};
use inventory::inventory;
use log::Log;
use options::{GLOBAL, Global, INFO, InfoOptions, LIST, ListOptions};

const ABOUT: &str = "Command line utility for manipulating NVIDIA GPU containers.";
const COMMANDS: &str = "
  info                           Report information about the driver and devices
  list                           List driver components
  configure                      Configure a container with GPU support
";

/// Why a run ends early.
#[derive(Debug)]
enum End {
    /// The text was requested, such as help. Printed to standard output.
    Say(String),
    /// The command line is invalid. Printed to standard error.
    Misread(String),
    Failed(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Runs the program; `name` is for messages.
pub(crate) fn run(name: &str, args: &[OsString]) -> ExitCode {
    let (text, is_good) = match carry_out(name, args) {
        Ok(text) | Err(End::Say(text)) => (text, true),
        Err(End::Misread(text)) => (text, false),
        Err(End::Failed(failure)) => (format!("{name}: {failure}\n"), false),
    };
    if is_good {
        return match output(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    say(&bounded(text.trim_end_matches('\n')));
    ExitCode::FAILURE
}

fn carry_out(name: &str, args: &[OsString]) -> Result<String, End> {
    let args = texts(args)?;
    let mut global = Global::default();
    let words = argp::parse(&GLOBAL, &args, Order::AtFirstWord, &mut global);
    let words = words.map_err(|stop| end(name, "COMMAND [ARG...]", &GLOBAL, stop))?;
    let Some((command, rest)) = words.split_first() else {
        return Err(usage_error(name, "COMMAND [ARG...]", &GLOBAL));
    };
    let rest: Vec<String> = rest.iter().map(|&arg| arg.to_owned()).collect();
    let inner = format!("{name} {command}");
    match *command {
        "info" => {
            let mut options = InfoOptions::default();
            read(&inner, "", &INFO, &rest, &mut options, 0..=0)?;
            start(&global, |log| {
                info::text(&inventory(&global, log)?, &options)
            })
        }
        "list" => {
            let mut options = ListOptions::default();
            read(&inner, "", &LIST, &rest, &mut options, 0..=0)?;
            if rest.is_empty() || rest.len() == 1 && options.devices.asks_for_imex() {
                options.everything();
            }
            start(&global, |log| {
                let mut inventory = inventory(&global, log)?;
                options.devices.left_out.take_from(&mut inventory);
                let paths = list::paths(&inventory, &options)?;
                Ok(paths.iter().map(|p| format!("{}\n", p.display())).collect())
            })
        }
        "configure" => {
            let mut options = Configure::default();
            // With an OCI state ROOTFS may be omitted, because the state has it.
            let words = read(&inner, "ROOTFS", &CONFIGURE, &rest, &mut options, 0..=1)?;
            if words.is_empty() && !options.oci_state {
                return Err(usage_error(&inner, "ROOTFS", &CONFIGURE));
            }
            let rootfs = words
                .first()
                .map(|w| configure_options::rootfs(w))
                .transpose();
            let rootfs = rootfs.map_err(|why| Phase::Input.failure(why))?;
            start(&global, |log| {
                configure::run(&global, &options, rootfs, log)?;
                Ok(String::new())
            })
        }
        _ => Err(usage_error(name, "COMMAND [ARG...]", &GLOBAL)),
    }
}

fn texts(args: &[OsString]) -> Result<Vec<String>, Failure> {
    let text = |arg: &OsString| {
        let why = || format!("{}: not UTF-8", Excerpt::of(arg));
        let text = arg.to_str().ok_or_else(|| Phase::Input.failure(why()));
        text.map(str::to_owned)
    };
    args.iter().map(text).collect()
}

/// Parses a command's options. Returns its words, whose number must be in `count`.
fn read<'a, T>(
    name: &str,
    words: &str,
    options: &[Opt<T>],
    args: &'a [String],
    into: &mut T,
    count: std::ops::RangeInclusive<usize>,
) -> Result<Vec<&'a str>, End> {
    let words_found = argp::parse(options, args, Order::Nowhere, into);
    let words_found = words_found.map_err(|stop| end(name, words, options, stop))?;
    if count.contains(&words_found.len()) {
        Ok(words_found)
    } else {
        Err(usage_error(name, words, options))
    }
}

fn end<T>(name: &str, words: &str, options: &[Opt<T>], stop: Stop) -> End {
    match stop {
        Stop::Help => {
            let commands = if words.starts_with("COMMAND") {
                COMMANDS
            } else {
                ""
            };
            let options = argp::help(options);
            End::Say(format!(
                "Usage: {name} [OPTION...] {words}\n{ABOUT}\n{commands}\n{options}"
            ))
        }
        Stop::Usage => End::Say(usage(name, words, options)),
        Stop::Version => End::Say(version()),
        Stop::Misread(why) => End::Misread(format!("{name}: {why}\n{}", try_help(name))),
        Stop::Value(why) => End::Failed(Phase::Input.failure(why)),
    }
}

fn usage<T>(name: &str, words: &str, options: &[Opt<T>]) -> String {
    format!("Usage: {name} {} {words}\n", argp::usage(options))
}

fn usage_error<T>(name: &str, words: &str, options: &[Opt<T>]) -> End {
    End::Misread(usage(name, words, options) + &try_help(name))
}

fn try_help(name: &str) -> String {
    format!("Try `{name} --help' or `{name} --usage' for more information.\n")
}

/// The lines of `--version`, the same as libnvidia-container's. Date and flags are constant, so that
/// builds are reproducible.
fn version() -> String {
    let line = |key: &str, value: &dyn Display| format!("{key}: {value}\n");
    let version = env!("CARGO_PKG_VERSION");
    [
        line("cli-version", &version),
        line("lib-version", &version),
        line("build date", &"reproducible"),
        line(
            "build revision",
            &option_env!("GPUSETUP_REVISION").unwrap_or("unknown"),
        ),
        line("build compiler", &"rustc"),
        line("build platform", &std::env::consts::ARCH),
        line("build flags", &""),
    ]
    .concat()
}

/// Runs a command with its log.
fn start(
    global: &Global,
    command: impl FnOnce(&Log) -> Result<String, Failure>,
) -> Result<String, End> {
    let log = Log::open(global.debug.as_deref())?;
    log.info(format!("gpu-container {}", env!("CARGO_PKG_VERSION")));
    if global.load_kmods {
        kmods::load(global, &log);
    }
    let done = command(&log);
    if let Err(failure) = &done {
        log.error(failure.to_string());
    }
    Ok(done?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_line(line: &str) -> Result<String, End> {
        let args: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        carry_out("nvidia-container-cli", &args)
    }

    #[test]
    fn help_usage_and_version_succeed() {
        for (line, expected) in [
            (
                "--help",
                "Usage: nvidia-container-cli [OPTION...] COMMAND [ARG...]\n",
            ),
            (
                "configure --help",
                "Usage: nvidia-container-cli configure [OPTION...] ROOTFS\n",
            ),
            ("list --usage", "Usage: nvidia-container-cli list [-lbif?V]"),
            ("-V", "cli-version: "),
            ("-kV", "cli-version: "),
        ] {
            match run_line(line) {
                Err(End::Say(text)) => assert!(text.starts_with(expected), "{text}"),
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_invalid_line_is_refused_before_the_host_is_read() {
        for line in [
            "",
            "odd",
            "info more",
            "list more",
            "configure",
            "configure /a /b",
        ] {
            match run_line(line) {
                Err(End::Misread(text)) => assert!(text.contains("--usage' for more"), "{text}"),
                other => panic!("{line}: {other:?}"),
            }
        }
        for line in [
            "configure /",
            "configure rootfs",
            "configure --pid=x /r",
            "-r . info",
        ] {
            match run_line(line) {
                Err(End::Failed(failure)) => assert_eq!(failure.phase, Phase::Input, "{line}"),
                other => panic!("{line}: {other:?}"),
            }
        }
    }
}
