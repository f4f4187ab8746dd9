//! `start-bench-peak FILE PROGRAM ARGS…`: runs the program and adds a line with its peak memory in kB to FILE.
//!
//! Linux keeps a process's peak over exec, so the peak of a program started by runc or by a large shell is at least
//! theirs. This one is small and static: the least that it can report is its own peak, some 600 kB.
#![forbid(unsafe_code)]

use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Command, ExitCode};

use nix::sys::resource::{UsageWho, getrusage};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(file), Some(program)) = (args.next(), args.next()) else {
        eprintln!("start-bench-peak FILE PROGRAM ARGS…");
        return ExitCode::from(4);
    };
    // Open the file first: the program may drop the rights that this takes.
    let log = OpenOptions::new().append(true).create(true).open(file);
    let status = Command::new(program).args(args).status();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN);
    match (log, status, usage) {
        (Ok(mut log), Ok(status), Ok(usage)) => {
            let noted = writeln!(log, "{}", usage.max_rss());
            let code = status.code().and_then(|c| u8::try_from(c).ok());
            ExitCode::from(code.filter(|_| noted.is_ok()).unwrap_or(1))
        }
        (log, status, _) => {
            eprintln!("start-bench-peak: {log:?} {status:?}");
            ExitCode::FAILURE
        }
    }
}
