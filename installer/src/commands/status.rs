//! `gpusetup` without a command: shows the state of the host and what to do next.

use crate::cli::args::Common;
use crate::error::Error;
use crate::error::exit::Exit;
use crate::error::invocation::Invocation;
use crate::host::Host;
use crate::setup::status::HostStatus;
use crate::terminal::screen::Screen;
use crate::terminal::stdio;

pub fn run(host: &Host, common: &Common) -> Result<Exit, Error> {
    if common.json {
        return super::detect::run(host, common);
    }
    let status = HostStatus::of(host)?;
    let screen = Screen::output(common.plain);
    stdio::result(&status.text(host, screen));
    stdio::result(&status.next(screen));
    stdio::result(&status.rest(Invocation::StatusAsRoot, screen));
    Ok(status.exit())
}
