//! What a command begins with: the host that the command line names, and where it changes that host, the rights, signals
//! held, the lock and what an earlier run has left. No command does any of that by itself.

use std::path::Path;

use gpu_inject::policy::Policy;

use crate::cli::args::Common;
use crate::engines::docker;
use crate::error::Error;
use crate::host::Host;
use crate::host::signals::{self, Interrupt};
use crate::terminal::progress::Progress;
use crate::transaction::context::Context;
use crate::transaction::lock::{self, Lock};
use crate::transaction::rollback::{self, Recovered};

/// The host of a command line. Without a driver root it is the policy's: by that one containers are started and the
/// spec is written at boot. What is wrong with a policy is said where it counts.
pub fn open_host(common: &Common) -> Result<Host, Error> {
    let mut host = Host::open(&common.root, Path::new("/"))?;
    host.driver_root = match &common.driver_root {
        Some(given) => given.clone(),
        None => Policy::load(host.root()).unwrap_or_default().driver_root,
    };
    Ok(host)
}

/// Who may run a command, unless the tree is the user's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Root, or a user with a Docker of their own.
    Engines,
    /// Root alone: what is changed is of all users.
    System,
}

/// What becomes of a run that did not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlierRun {
    /// It is put back or finished first, and a receipt that cannot be used is refused.
    EndFirst,
    /// To put it back or to finish it is all that is asked for.
    EndOnly,
    /// It stays: what the command writes is no part of any run.
    Leave,
}

/// A command that changes the host, from its first step to its last.
pub struct Session<'a> {
    /// The host.
    pub host: &'a Host,
    /// Whether the user wants it to end.
    pub signals: Interrupt,
    /// Lines while it goes on.
    pub progress: Progress,
    /// The run that was put back or finished, where there was one.
    pub recovered: Option<Recovered>,
    _lock: Lock,
}

impl<'a> Session<'a> {
    /// Begins. What the command plans after that it plans under the lock: another run may end between a look and the lock.
    pub fn begin(
        host: &'a Host,
        common: &Common,
        rights: Rights,
        earlier: EarlierRun,
    ) -> Result<Self, Error> {
        ensure_rights(host, rights)?;
        let signals = signals::hold()?;
        let progress = Progress::new(common);
        // A recovery goes on to its end: one that is stopped half-way would be one more to recover from.
        let progress = match earlier {
            EarlierRun::EndOnly => progress,
            EarlierRun::EndFirst | EarlierRun::Leave => progress.until(&signals),
        };
        let lock = lock::take(host)?;
        let recovered = match earlier {
            EarlierRun::EndFirst => rollback::recover_before_run(host, &progress)?,
            EarlierRun::EndOnly => rollback::recover(host, &progress)?,
            EarlierRun::Leave => None,
        };
        Ok(Self {
            host,
            signals,
            progress,
            recovered,
            _lock: lock,
        })
    }

    /// Says only what goes wrong from here on: the command tells its result itself.
    pub fn quiet(self) -> Self {
        Self {
            progress: self.progress.quiet(),
            ..self
        }
    }

    /// For the steps of a run.
    pub fn context(&self) -> Context<'_> {
        self.context_of(self.host)
    }

    /// The same, for a run over a handle of the host that was opened since.
    pub fn context_of<'b>(&'b self, host: &'b Host) -> Context<'b> {
        Context {
            host,
            signals: &self.signals,
            progress: &self.progress,
        }
    }
}

fn ensure_rights(host: &Host, rights: Rights) -> Result<(), Error> {
    let has_own_docker = rights == Rights::Engines
        && host
            .user()
            .is_some_and(|user| docker::is_rootless_for(host, user));
    if has_own_docker || !host.is_live() || nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(Error::Usage(
        "this changes the host: run it as root, with sudo".into(),
    ))
}
