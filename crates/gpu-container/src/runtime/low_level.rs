//! Finds the low-level runtime and executes it.
//!
//! A container is made by the first of the list that is installed. From then on it is that runtime's: no other one can
//! stop, enter or remove it, whatever the list says and whichever programs are installed by then.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::iter::once;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use gpu_host::programs;
use gpu_inject::policy::Policy;
use gpu_inject::{Error, Excerpt, Message};
use nix::unistd::execv;

use super::command_line::Call;
use super::family::{Likeness, RuntimeFamily};
use crate::exit::ExitCode;
use crate::log;

/// The low-level runtimes to choose from, the preferred one first.
pub(super) struct Candidates<'a> {
    names: Vec<&'a String>,
    policy: &'a Policy,
}

/// A container that is there.
struct MadeContainer<'a> {
    id: &'a OsStr,
    /// The runtimes that have a state of it, each with the file that shows it. Where the command line names no root
    /// there can be two, since each runtime has a root of its own.
    by: Vec<(RuntimeFamily, PathBuf)>,
}

impl<'a> Candidates<'a> {
    /// Those of the policy, after `first`.
    pub(super) fn of(policy: &'a Policy, first: Option<&'a String>) -> Self {
        let names = first.into_iter().chain(&policy.runtimes).collect();
        Self { names, policy }
    }

    /// The one that makes new containers.
    pub(super) fn for_new(&self) -> Result<PathBuf, Error> {
        self.installed().next().ok_or_else(|| {
            let tried: Vec<&str> = self.names.iter().map(|name| name.as_str()).collect();
            let tried = tried.join(", ");
            let why = format!(
                "none of the low-level runtimes {tried} is installed; install runc, or name one in {} (nvidia-container-runtime.runtimes)",
                self.policy.path.display()
            );
            Error::State(why.into())
        })
    }

    /// The one for a command that makes no container: that which has made the container, and where nothing tells
    /// which, the one that makes new ones.
    pub(super) fn for_existing(&self, call: &Call) -> Result<PathBuf, Error> {
        let Some(container) = MadeContainer::of(call) else {
            return self.for_new().or_else(|why| usual().ok_or(why));
        };
        let by = &container.by;
        let is = |wanted: Likeness| {
            move |program: &PathBuf| {
                let mut all = by.iter().map(|(family, _)| family.likeness(program));
                all.any(|likeness| likeness == wanted)
            }
        };
        let unlisted = by.iter().flat_map(|(family, _)| {
            let packaged = programs::PACKAGED_DIRS.map(|dir| Path::new(dir).join(family.name()));
            found_as(family.name()).chain(packaged.into_iter().filter(|p| is_program(p)))
        });
        // One that is certain comes before one of the list that nothing is known of.
        let sure = self.installed().chain(unlisted).find(is(Likeness::Sure));
        sure.or_else(|| self.installed().find(is(Likeness::Possible)))
            .ok_or_else(|| container.lost(self.policy))
    }

    fn installed(&self) -> impl Iterator<Item = PathBuf> {
        self.names.iter().flat_map(|name| found_as(name))
    }
}

impl<'a> MadeContainer<'a> {
    /// The container that a command is about, if a known runtime has made it.
    fn of(call: &'a Call) -> Option<Self> {
        let root = call.root.as_deref();
        call.ids.iter().find_map(|id| {
            let by: Vec<(RuntimeFamily, PathBuf)> = RuntimeFamily::ALL
                .into_iter()
                .filter_map(|family| Some((family, family.state_file(root, id)?)))
                .collect();
            (!by.is_empty()).then_some(Self { id, by })
        })
    }

    /// The error for a container whose runtime is gone.
    fn lost(&self, policy: &Policy) -> Error {
        let names: Vec<&str> = self.by.iter().map(|(family, _)| family.name()).collect();
        let files = self
            .by
            .iter()
            .map(|(_, file)| Excerpt::of(file).to_string());
        let (name, files) = (names.join(" or "), files.collect::<Vec<_>>().join(", "));
        Error::State(Message::of(format_args!(
            "container {} was made by {name} (see {files}), which is not installed any more, and no other runtime can \
             stop, enter or remove it; install {name} again, or add the path of its program to {} \
             (nvidia-container-runtime.runtimes, at any place)",
            Excerpt::of(self.id),
            policy.path.display()
        )))
    }
}

/// A low-level runtime for what has nothing to do with GPUs while none of those that the policy names is installed: one of
/// the usual names, as for a host without a policy.
pub(super) fn usual() -> Option<PathBuf> {
    Policy::default()
        .runtimes
        .iter()
        .find_map(|name| found_as(name).next())
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

/// The programs of this name or path, in the order of PATH.
fn found_as(name: &str) -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> = env::split_paths(&path)
        .chain(programs::DIRS.map(PathBuf::from))
        .filter(|dir| dir.is_absolute())
        .collect();
    // `join` with an absolute name is that name.
    dirs.into_iter()
        .map(move |dir| dir.join(name))
        .filter(|program| is_program(program))
}

/// Whether this can be executed. This program itself does not count, since a shim that executes itself would never end.
fn is_program(path: &Path) -> bool {
    let this = || fs::metadata("/proc/self/exe").map(|m| (m.dev(), m.ino()));
    let is_this =
        |metadata: &Metadata| this().is_ok_and(|own| own == (metadata.dev(), metadata.ino()));
    fs::metadata(path).is_ok_and(|metadata| {
        metadata.is_file() && metadata.mode() & 0o111 != 0 && !is_this(&metadata)
    })
}
