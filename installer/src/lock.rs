//! One run at a time.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use crate::error::Error;
use crate::host::Host;

const PATH: &str = "/run/lock/gpusetup.lock";

/// Held until dropped; the kernel lets go of it whatever happens to the process.
pub struct Lock(#[allow(dead_code, reason = "held, not used")] Flock<File>);

/// Takes the lock, or says who has it.
pub fn take(host: &Host) -> Result<Lock, Error> {
    let path = Path::new(PATH);
    let file = host.root().host_path(path);
    let failed = |what| Error::file(path, what);
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir).map_err(failed("make directory"))?;
    }
    let mut open = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&file)
        .map_err(failed("open"))?;
    let mut holder = String::new();
    open.read_to_string(&mut holder).map_err(failed("read"))?;
    let mut held =
        Flock::lock(open, FlockArg::LockExclusiveNonblock).map_err(|(_, _)| Error::Locked {
            path: path.to_owned(),
            pid: holder.trim().parse().ok(),
        })?;
    held.rewind().map_err(failed("write"))?;
    held.set_len(0).map_err(failed("write"))?;
    write!(held, "{}", std::process::id()).map_err(failed("write"))?;
    Ok(Lock(held))
}
