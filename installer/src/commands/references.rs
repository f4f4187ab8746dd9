//! `gpusetup references`: says what on this host needs our packages, for their scripts that run
//! before a removal.

use crate::cli::args::{Common, ReferencesArgs};
use crate::error::Error;
use crate::error::exit::Exit;
use crate::host::Host;
use crate::render::references;
use crate::setup::references::find;
use crate::terminal::screen::Screen;
use crate::terminal::stdio;

pub fn run(host: &Host, common: &Common, args: &ReferencesArgs) -> Result<Exit, Error> {
    if args.places {
        stdio::result(&references::shell_variables());
        return Ok(Exit::Done);
    }
    let references = find(host, &args.packages, args.after_undo)?;
    if common.json {
        stdio::result(&format!("{}\n", references::document(&references)));
    } else {
        stdio::result(&references::text(&references, Screen::output(common.plain)));
    }
    Ok(references.exit())
}
