//! Finds the low-level runtime and executes it.

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

/// The first runtime that is installed, among `first` and those of the policy.
pub(super) fn low_level(policy: &Policy, first: Option<&String>) -> Result<PathBuf, Error> {
    let candidates: Vec<&String> = first.into_iter().chain(&policy.runtimes).collect();
    candidates.iter().find_map(|r| find(r)).ok_or_else(|| {
        let tried: Vec<&str> = candidates.iter().map(|r| r.as_str()).collect();
        let tried = tried.join(", ");
        let why = format!(
            "none of the low-level runtimes {tried} is installed; install runc, or name one in {} (nvidia-container-runtime.runtimes)",
            policy.path.display()
        );
        Error::State(why.into())
    })
}

/// A low-level runtime for what has nothing to do with GPUs while none of those that the policy names is installed: one of
/// the usual names, as for a host without a policy.
pub(super) fn usual() -> Option<PathBuf> {
    Policy::default()
        .runtimes
        .iter()
        .find_map(|name| find(name))
}

/// Executes the low-level runtime. Returns only if that fails.
pub(super) fn exec(program: PathBuf, args: &[OsString]) -> Result<ExitCode, Error> {
    log::end();
    let result = c_string(program.as_os_str()).and_then(|name| {
        let args = args.iter().map(|arg| c_string(arg));
        let all = once(Ok(name.clone()))
            .chain(args)
            .collect::<Result<Vec<_>, _>>()?;
        // Unlike std's exec, this does not reset SIGPIPE, which our caller may have ignored.
        Ok(execv(&name, &all).map(|never| match never {})?)
    });
    result.map_err(|source| Error::Host {
        path: program,
        source,
    })
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    Ok(CString::new(text.as_bytes())?)
}

/// Finds a program by name or path. Skips this program itself, since a shim that executes itself would never end.
fn find(name: &str) -> Option<PathBuf> {
    let this = fs::metadata("/proc/self/exe").map(|m| (m.dev(), m.ino()));
    let is_this = |metadata: &Metadata| {
        this.as_ref()
            .is_ok_and(|o| *o == (metadata.dev(), metadata.ino()))
    };
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(programs::DIRS.map(PathBuf::from));
    // `join` with an absolute name is that name.
    dirs.filter(|d| d.is_absolute())
        .map(|d| d.join(name))
        .find(|p| fs::metadata(p).is_ok_and(|metadata| metadata.is_file() && !is_this(&metadata)))
}
