//! gpu-run (`testenv/gpu` starts it): tries every way of getting a GPU into a container on this host, in a throw-away
//! layer over it.
#![forbid(unsafe_code)]

mod bundle;
mod cli;
mod command;
mod daemons;
mod files;
mod host;
mod image;
mod isolate;
mod judge;
mod layer;
mod options;
mod outer;
mod read_back;
mod record;
mod redact;
mod report;
mod times;
mod tries;
mod ways;
mod work;

use std::process::ExitCode;

use clap::Parser;

use options::{Cli, Verb};

/// clap exits with 2 on bad usage, which has another meaning here; gpusetup uses 4 as well.
const BAD_USAGE: u8 = 4;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { BAD_USAGE } else { 0 });
        }
    };
    let result = match cli.verb {
        Verb::Run(options) => outer::run(options),
        Verb::Isolate(options) => isolate::isolate(&options),
        Verb::Init(options) => isolate::init(&options),
        Verb::Work(options) => work::work(&options),
        Verb::Read { recording } => read_back::read(&recording).map(|recorded| {
            println!(
                "driver {}, {} libraries, GPUs: {}",
                recorded.version,
                recorded.libraries,
                recorded.uuids.join(" ")
            );
            0
        }),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("gpu-run: {e}");
            ExitCode::from(isolate::CANNOT)
        }
    }
}
