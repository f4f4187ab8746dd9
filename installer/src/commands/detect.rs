//! `gpusetup detect`: shows the host, its GPUs and its engines.

use crate::cli::args::Common;
use crate::error::Error;
use crate::error::exit::Exit;
use crate::error::invocation::Invocation;
use crate::host::Host;
use crate::setup::status::HostStatus;
use crate::terminal::screen::Screen;
use crate::terminal::stdio;

pub fn run(host: &Host, common: &Common) -> Result<Exit, Error> {
    let status = HostStatus::of(host)?;
    if common.json {
        stdio::result(&format!("{}\n", status.document(host)));
    } else {
        let screen = Screen::output(common.plain);
        stdio::result(&status.text(host, screen));
        stdio::result(&status.rest(Invocation::DetectAsRoot, screen));
    }
    Ok(status.exit())
}
