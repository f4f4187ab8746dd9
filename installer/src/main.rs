//! gpusetup: GPU containers on any Linux host.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    gpusetup::main()
}
