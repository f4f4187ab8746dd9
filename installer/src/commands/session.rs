//! Starts a command: opens its host and, if it changes the host, checks the rights, holds signals,
//! takes the lock and recovers an interrupted run. No command does any of this by itself.

use crate::cli::args::Common;
use crate::engines::docker;
use crate::error::Error;
use crate::host::Host;
use crate::host::signals::{self, Interrupt};
use crate::terminal::context::RunContext;
use crate::terminal::progress::Progress;
use crate::transaction::lock::{self, Lock};
use crate::transaction::rollback::{self, Recovered};

/// Opens the host that the command line names.
pub fn open_host(common: &Common) -> Result<Host, Error> {
    Host::open_with_policy(&common.root, common.driver_root.as_deref())
}

/// Which user may run a command on the live host. Any user may change a directory tree that they can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Root, or a user with a rootless Docker.
    Engines,
    /// Only root: the change affects all users.
    System,
}

/// What to do about an earlier run that was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlierRun {
    /// Roll it back or finish it first, and refuse a receipt that cannot be used.
    EndFirst,
    /// Roll it back or finish it; that is the whole command.
    EndOnly,
    /// The same, and give up what cannot be put back.
    GiveUp,
    /// Leave it: what the command writes is not part of any run.
    Leave,
}

/// A command that changes the host, from its first step to its last.
pub struct Session<'a> {
    /// The host.
    pub host: &'a Host,
    /// Whether the user has interrupted the command.
    pub signals: Interrupt,
    /// Shows the progress of the command.
    pub progress: Progress,
    /// The interrupted run that was rolled back or finished, if there was one.
    pub recovered: Option<Recovered>,
    _lock: Lock,
}

impl<'a> Session<'a> {
    /// Begins a session. A command must make its plan after this, under the lock: otherwise another
    /// run could change the host in between.
    pub fn begin(
        host: &'a Host,
        common: &Common,
        rights: Rights,
        earlier: EarlierRun,
    ) -> Result<Self, Error> {
        ensure_rights(host, rights)?;
        let signals = signals::hold()?;
        let progress = Progress::new(common);
        // A recovery is not interrupted: one that stopped half-way would itself need recovery.
        let progress = match earlier {
            EarlierRun::EndOnly | EarlierRun::GiveUp => progress,
            EarlierRun::EndFirst | EarlierRun::Leave => progress.until(&signals),
        };
        let lock = lock::take(host)?;
        let recovered = match earlier {
            EarlierRun::EndFirst => rollback::recover_before_run(host, &progress)?,
            EarlierRun::EndOnly => rollback::recover(host, &progress)?,
            EarlierRun::GiveUp => rollback::recover_or_give_up(host, &progress)?,
            EarlierRun::Leave => None,
        };
        if recovered.is_some() {
            // A caller that depends on it gets its error.
            let _ = host.read_policy_again();
        }
        Ok(Self {
            host,
            signals,
            progress,
            recovered,
            _lock: lock,
        })
    }

    /// What could not be put back of an earlier run.
    pub fn left_of_earlier_run(&self) -> &[String] {
        self.recovered.as_ref().map_or(&[], |r| r.left.as_slice())
    }

    /// Shows only warnings and errors from now on; the command reports its result itself.
    pub fn quiet(self) -> Self {
        Self {
            progress: self.progress.quiet(),
            ..self
        }
    }

    /// The context for the steps of a run.
    pub fn context(&self) -> RunContext<'_> {
        self.context_of(self.host)
    }

    /// The context for a run on a host that was opened again after the session began.
    pub fn context_of<'b>(&'b self, host: &'b Host) -> RunContext<'b> {
        RunContext {
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
    Err(Error::NotRoot)
}
