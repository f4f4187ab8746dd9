//! Tells whether an engine runs with its files as they are, or needs a restart for that, and whose change it has not
//! read.
//!
//! Ours: what gpusetup has set up is not in effect. The daemon itself is asked if it can tell. Otherwise the receipt
//! tells in which start of the service the files were written, and for receipts without that, the times of the files.
//! Theirs: a file that the daemon reads was changed after its start, and is not as gpusetup has written it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::engines::docker;
use crate::engines::down;
use crate::engines::engine::Engine;
use crate::error::Error;
use crate::host::Host;
use crate::host::answer::Answer;
use crate::host::service::{Manager, Service};
use crate::host::service_state::{ServiceState, Start};
use crate::host::systemd_unit::Unit;
use crate::model::change::Change;
use crate::model::host_state::{HostState, RestartDue, Whose};
use crate::setup::history;
use crate::transaction::receipt::Receipt;

/// Where the system's receipt is, which only root reads.
const SYSTEM_STATE: &str = "/var/lib/gpusetup";
/// Said of an engine that was not restarted after gpusetup wrote its files.
const NOT_READ: &str = "it has not read what gpusetup wrote";

/// The restart that an engine needs. `None` if it needs none: it has no daemon, does not run, or has read its files.
pub fn of(
    host: &Host,
    engine: &dyn Engine,
    receipt: Option<&Receipt>,
    service: &Service,
    state: Answer<ServiceState>,
) -> Answer<RestartDue> {
    if !host.is_live() || engine.facts().daemon.runs() == Some(false) {
        return Answer::None;
    }
    let (start, unknown) = match state {
        Answer::Known(ServiceState::Runs(start)) => (start, None),
        Answer::Known(ServiceState::Changes) => {
            let why = "it is just being started or stopped";
            (Start::default(), Some(why.into()))
        }
        // Somebody has started it by hand.
        Answer::Known(_) | Answer::None if engine.facts().daemon.runs() == Some(true) => {
            (Start::default(), Some("its service does not run it".into()))
        }
        // Its next start reads the files.
        Answer::Known(_) | Answer::None => return Answer::None,
        Answer::Unknown(why) => (Start::default(), Some(why)),
    };
    // Reads that fail here are answered with "not known"; they are no reason for the whole plan to fail.
    let Ok(host) = &host.anew() else {
        return Answer::Unknown("the host's files cannot be read".into());
    };
    let running = RunningEngine {
        host,
        engine,
        receipt,
        service,
        start,
        unknown,
    };
    running.due()
}

/// How a running engine, none of whose files has anything of gpusetup's any more, still runs with what gpusetup wrote;
/// `None` if it does not, or if nobody can tell.
pub fn still_runs_with_ours(
    host: &Host,
    engine: &dyn Engine,
    receipt: &Receipt,
    service: &Service,
) -> Option<String> {
    match engine.still_in_effect(host) {
        Answer::Known(how) => return how,
        Answer::None | Answer::Unknown(_) => {}
    }
    let Answer::Known(ServiceState::Runs(start)) = service.state(host) else {
        return None;
    };
    // Nothing has started it anew since gpusetup made it read them.
    if receipt.has_read(service, &start) == Some(true) {
        return Some("it still runs with what gpusetup wrote".into());
    }
    let running = RunningEngine {
        host,
        engine,
        receipt: Some(receipt),
        service,
        start,
        unknown: None,
    };
    let mut its = receipt.changes.iter().filter(|c| engine.owns(&c.path));
    let changed = its.find(|c| {
        let is_newer = || running.is_newer(&c.path) == Answer::Known(true);
        running.is_read_at_start(&c.path) && (is_newer() || running.is_gone(&c.path))
    })?;
    let path = changed.path.display();
    Some(format!("{path} may have been changed after it started"))
}

/// What engines still run with of what earlier runs wrote, when nothing of it is recorded any more: after an undo that
/// restarted nothing. A daemon that cannot tell is named if its files are newer than its start.
pub fn after_undo(host: &Host, engines: &[Box<dyn Engine>]) -> HostState {
    let mut state = HostState::default();
    let (Ok(anew), true) = (host.anew(), host.is_live()) else {
        return state;
    };
    let is_asked = |e: &dyn Engine| e.is_ours() && host.user().is_some() == e.is_of_user();
    for engine in engines.iter().filter(|e| is_asked(&***e)) {
        let service = engine.daemon_service(host);
        let runs = engine.facts().daemon.runs() == Some(true);
        let Some(service) = service.filter(|_| runs) else {
            continue;
        };
        let start = match service.state(host) {
            Answer::Known(ServiceState::Runs(start)) => start,
            _ => Start::default(),
        };
        let running = RunningEngine {
            host: &anew,
            engine: &**engine,
            receipt: None,
            service: &service,
            start,
            unknown: None,
        };
        let due = match (engine.still_in_effect(host), running.theirs()) {
            (Answer::Known(Some(how)), _) => running.restart(Whose::Ours, how),
            (Answer::None, Answer::Known(why)) => running.restart(Whose::Theirs, why),
            _ => continue,
        };
        state.due.push(due);
    }
    state
}

struct RunningEngine<'a> {
    host: &'a Host,
    engine: &'a dyn Engine,
    receipt: Option<&'a Receipt>,
    service: &'a Service,
    start: Start,
    /// Why its start is not known.
    unknown: Option<String>,
}

impl RunningEngine<'_> {
    fn due(&self) -> Answer<RestartDue> {
        if self.host.user().is_some() && !self.engine.is_of_user() {
            // What was set up in it is recorded where only root reads.
            return if self.host.root().exists(SYSTEM_STATE) {
                Answer::Unknown("only root can read what was set up".into())
            } else {
                Answer::None
            };
        }
        let ours = match self.ours() {
            Answer::Known(why) => return Answer::Known(self.restart(Whose::Ours, why)),
            ours => ours.unknown().map(str::to_owned),
        };
        match (self.theirs(), ours) {
            (Answer::Known(why), None) => Answer::Known(self.restart(Whose::Theirs, why)),
            (_, Some(why)) | (Answer::Unknown(why), None) => Answer::Unknown(why),
            (Answer::None, None) => Answer::None,
        }
    }

    fn restart(&self, whose: Whose, why: String) -> RestartDue {
        let restart = self.service.restart_command().join(" ");
        let command = match self.service.manager {
            // A unit that was changed is read only then.
            Manager::Systemd => format!("systemctl daemon-reload && {restart}"),
            Manager::SystemdUser => format!("systemctl --user daemon-reload && {restart}"),
            Manager::OpenRc | Manager::Snap => restart,
        };
        let by_another = down::by_another(self.host, self.engine);
        RestartDue {
            engine: self.engine.facts().name.clone(),
            service: self.service.name.clone(),
            whose,
            why,
            command: by_another.is_none().then_some(command),
            by_another,
        }
    }

    /// How what gpusetup has set up is not in effect.
    fn ours(&self) -> Answer<String> {
        let Some(receipt) = self.receipt else {
            return Answer::None;
        };
        let Some(wanted) = history::wanted(receipt, self.engine) else {
            return Answer::None;
        };
        if !history::is_edited(receipt, self.engine) {
            return Answer::None;
        }
        let recorded = receipt.is_unread(self.service, &self.start);
        match self.engine.not_in_effect(self.host, &wanted) {
            Answer::Known(Some(how)) => return Answer::Known(how),
            // What it has may be more than what was written last.
            Answer::Known(None) if recorded == Some(true) => {
                return match self.engine.still_in_effect(self.host) {
                    Answer::Known(Some(how)) => Answer::Known(how),
                    Answer::Known(None) | Answer::None => Answer::None,
                    Answer::Unknown(why) => Answer::Unknown(why),
                };
            }
            Answer::Known(None) => return Answer::None,
            Answer::Unknown(why) if recorded != Some(true) => return Answer::Unknown(why),
            Answer::Unknown(_) | Answer::None => {}
        }
        match recorded {
            Some(true) => Answer::Known(NOT_READ.into()),
            Some(false) => Answer::None,
            None => self.ours_by_time(receipt),
        }
    }

    fn ours_by_time(&self, receipt: &Receipt) -> Answer<String> {
        let its = receipt.changes.iter();
        let its = its.filter(|c| c.after.is_some() && self.engine.owns(&c.path));
        for change in its.filter(|c| self.is_read_at_start(&c.path)) {
            match (self.is_newer(&change.path), self.is_as_written(change)) {
                (Answer::Known(true), Ok(true)) => return Answer::Known(NOT_READ.into()),
                (Answer::Unknown(why), _) => return Answer::Unknown(why),
                (_, Err(e)) => return Answer::Unknown(e.to_string()),
                _ => {}
            }
        }
        Answer::None
    }

    /// The first file that somebody else changed after the daemon's start.
    fn theirs(&self) -> Answer<String> {
        if self.start.at.is_none() {
            // Without gpusetup's own change this is a remark; nobody is told that there is none.
            return Answer::None;
        }
        if let Some(gone) = self.removed() {
            let gone = gone.display();
            let why = format!("{gone}, which gpusetup wrote, was removed after it started");
            return Answer::Known(why);
        }
        for path in self.files() {
            if self.is_ours(&path) || !self.is_read_at_start(&path) {
                continue;
            }
            match self.is_newer(&path) {
                Answer::Known(true) => {
                    return Answer::Known(format!(
                        "{} was changed after it started",
                        path.display()
                    ));
                }
                Answer::Unknown(why) => return Answer::Unknown(why),
                Answer::Known(false) | Answer::None => {}
            }
        }
        if self.start.reload_pending && !self.has_our_drop_in() {
            let name = &self.service.name;
            return Answer::Known(format!("systemd has not read the changed files of {name}"));
        }
        Answer::None
    }

    /// A file of gpusetup's that this start of its daemon has read, and that is gone by now.
    fn removed(&self) -> Option<PathBuf> {
        let receipt = self.receipt?;
        if receipt.has_read(self.service, &self.start) != Some(true) {
            return None;
        }
        let its = receipt.changes.iter();
        let mut its = its.filter(|c| c.after.is_some() && self.engine.owns(&c.path));
        let is_gone = |path: &Path| self.is_newer(path) == Answer::None;
        let gone = its.find(|c| self.is_read_at_start(&c.path) && is_gone(&c.path));
        gone.map(|c| c.path.clone())
    }

    /// Whether a file does not exist any more, and may have been removed after the daemon's start: its directory was
    /// changed after that.
    fn is_gone(&self, path: &Path) -> bool {
        let Some(dir) = path
            .parent()
            .filter(|_| self.is_newer(path) == Answer::None)
        else {
            return false;
        };
        // A directory that went with the file was in one that is still there.
        let mut dirs = dir.ancestors().map(|dir| self.is_newer(dir));
        dirs.find(|newer| *newer != Answer::None) == Some(Answer::Known(true))
    }

    /// The files that its daemon and its service's manager read.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = self.engine.reads();
        let unit = match (self.service.manager, self.host.user()) {
            (Manager::Systemd, _) => Unit::read(self.host, &self.service.name),
            (Manager::SystemdUser, Some(user)) => docker::user_unit(self.host, user),
            _ => Unit::default(),
        };
        files.extend(unit.files().iter().cloned());
        files.retain(|f| self.engine.rendered() != Some(f.as_path()));
        files
    }

    /// Whether a file is as gpusetup has written it.
    fn is_ours(&self, path: &Path) -> bool {
        let changes = self.receipt.iter().flat_map(|r| &r.changes);
        let mut its = changes.filter(|c| c.path == path);
        its.any(|c| self.is_as_written(c).unwrap_or(false))
    }

    fn has_our_drop_in(&self) -> bool {
        let changes = self.receipt.iter().flat_map(|r| &r.changes);
        let dir = format!("{}.d", self.service.name);
        let is_in = |p: &Path| p.parent().is_some_and(|p| p.ends_with(&dir));
        let mut its = changes.filter(|c| c.after.is_some() && is_in(&c.path));
        its.any(|c| matches!(self.is_newer(&c.path), Answer::Known(true)))
    }

    fn is_as_written(&self, change: &Change) -> Result<bool, Error> {
        Ok(self.host.text(&change.path)? == change.after)
    }

    /// Whether a change to that file needs a restart of this engine. Some daemons watch their files.
    fn is_read_at_start(&self, path: &Path) -> bool {
        !self.engine.watches(path)
    }

    /// Whether a file was changed after the daemon had started, and after it was last told to reload. `None` if it does
    /// not exist.
    fn is_newer(&self, path: &Path) -> Answer<bool> {
        let metadata = match Answer::from(self.host.root().metadata(path)) {
            Answer::Known(metadata) => metadata,
            Answer::None => return Answer::None,
            Answer::Unknown(why) => return Answer::Unknown(why),
        };
        let Some(start) = self.start.at else {
            let why = self.unknown.clone();
            let why = why.unwrap_or_else(|| "its manager does not tell when it started".into());
            return Answer::Unknown(why);
        };
        let last = self.start.changed_at.unwrap_or(start).max(start);
        Answer::Known(metadata.mtime() > i64::try_from(last).unwrap_or(i64::MAX))
    }
}
