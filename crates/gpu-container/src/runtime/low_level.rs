//! The low-level runtime: which one, and becoming it.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::iter::once;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use gpu_host::programs;
use gpu_inject::Error;
use gpu_inject::policy::Policy;
use nix::unistd::execv;

use crate::exit::ExitCode;
use crate::log;

/// The first that is installed, of `first` and those of the policy.
pub(super) fn low_level(policy: &Policy, first: Option<&String>) -> Result<PathBuf, Error> {
    let wanted: Vec<&String> = first.into_iter().chain(&policy.runtimes).collect();
    wanted.iter().find_map(|r| find(r)).ok_or_else(|| {
        let tried: Vec<&str> = wanted.iter().map(|r| r.as_str()).collect();
        let tried = tried.join(", ");
        let why = format!(
            "none of the low-level runtimes {tried} is installed; install runc, or name one in {} (nvidia-container-runtime.runtimes)",
            policy.path.display()
        );
        Error::State(why.into())
    })
}

/// Becomes the low-level runtime; returns only with an error.
pub(super) fn exec(program: PathBuf, args: &[OsString]) -> Result<ExitCode, Error> {
    log::end();
    let done = text(program.as_os_str()).and_then(|name| {
        let args = args.iter().map(|arg| text(arg));
        let all = once(Ok(name.clone()))
            .chain(args)
            .collect::<Result<Vec<_>, _>>()?;
        // std's would set SIGPIPE back, which may have been ignored.
        Ok(execv(&name, &all).map(|never| match never {})?)
    });
    done.map_err(|source| Error::Host {
        path: program,
        source,
    })
}

fn text(of: &OsStr) -> io::Result<CString> {
    Ok(CString::new(of.as_bytes())?)
}

/// A program by name or path, never ourselves: a shim that runs itself never ends.
fn find(name: &str) -> Option<PathBuf> {
    let own = fs::metadata("/proc/self/exe").map(|m| (m.dev(), m.ino()));
    let is_own = |found: &Metadata| own.as_ref().is_ok_and(|o| *o == (found.dev(), found.ino()));
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(programs::DIRS.map(PathBuf::from));
    // `join` with an absolute name is that name.
    dirs.filter(|d| d.is_absolute())
        .map(|d| d.join(name))
        .find(|p| fs::metadata(p).is_ok_and(|found| found.is_file() && !is_own(&found)))
}
