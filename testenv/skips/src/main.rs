//! `skips excused WHAT…`: prints why skips for want of these are no failure here, and exits 1
//! where one of them is. For scripts: the Rust tests ask the library.
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() != Some("excused") || args.len() == 0 {
        eprintln!("usage: skips excused WHAT…");
        return ExitCode::from(4);
    }
    let mut code = ExitCode::SUCCESS;
    for what in args {
        if let Some(row) = skips::excused(&what) {
            println!("{what}: excused ({}): {}", row.condition, row.why);
        } else {
            println!("{what}: testenv/skips/excused has no row for it that holds on this machine");
            code = ExitCode::FAILURE;
        }
    }
    code
}
