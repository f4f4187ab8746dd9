//! `gpusetup ask-nvml`: prints what NVML says, for a run of gpusetup that waits for it with a limit.

use std::path::Path;

use crate::error::Error;
use crate::error::exit::Exit;
use crate::error::program_fault::ProgramFault;
use crate::setup::driver_answer;
use crate::terminal::stdio;

pub fn run(library: &Path, links: bool) -> Result<Exit, Error> {
    let line = library.display().to_string();
    let failed = |why| Error::program(&line, ProgramFault::Failed(why));
    stdio::result(&driver_answer::read(library, links).map_err(failed)?);
    Ok(Exit::Done)
}
