//! Verifies the setup: runs containers from the built-in image in each engine, which report what
//! they see before and after a `systemctl daemon-reload`.

mod driver;
mod host_files;
mod probe_program;
mod probe_report;
mod session;
mod verified;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use driver::OnHost;
use gpu_host::init;
use probe_program::{Patience, Program};
use session::ProbeSession;

use crate::engines::engine::Engine;
use crate::engines::probe_image;
use crate::error::Error;
use crate::error::invocation::Invocation;
use crate::host::answer::Answer;
use crate::host::{Host, systemd_scopes};
use crate::terminal::context::RunContext;
use crate::terminal::progress::Progress;
pub use verified::{Outcome, Reload, Unverified, Verified, dead};

/// The program in the built-in image.
const PROGRAM: &str = "/usr/lib/gpu-container/gpu-container";

/// The reason why an engine is not verified in which only containers that ask for no GPU could be run.
const NO_GPU_ASKED: &str = "no container that asks for GPUs could be run in it";
/// The reason why an engine that runs no container of ours is not verified.
pub const NO_CONTAINER: &str = "gpusetup runs no container in it";

/// The parameters of a verification.
#[derive(Clone, Copy, Debug)]
pub struct Expectation {
    /// The number of GPUs that a container gets that requests all.
    pub gpus: usize,
    /// Also do a daemon-reload while the containers run, unless that would harm other containers.
    pub reload: bool,
}

/// Runs containers in each of these engines.
pub fn run<'a>(
    context: &RunContext,
    engines: impl Iterator<Item = &'a dyn Engine>,
    wanted: Expectation,
) -> Result<Outcome, Error> {
    let &RunContext {
        host,
        signals,
        progress,
    } = context;
    if !host.is_live() {
        return Err(Error::NoContainersInTree);
    }
    let archive = archive(host)?;
    let obstacle = obstacle(host, wanted.reload);
    let on_host = OnHost::ask(host);
    let mut sessions = Vec::new();
    let mut all = Outcome::default();
    for engine in engines {
        let name = engine.facts().name.clone();
        let containers = engine.probe(host, archive.path());
        let pods = engine.pods(host, archive.path());
        all.caveats.extend(engine.caveats(host));
        let kinds = [("containers", containers), ("pods", pods)];
        if kinds.iter().all(|(_, probe)| probe.is_none()) {
            if engine.is_to_be_verified() {
                all.not_verified.push(Unverified {
                    engine: name,
                    how: String::new(),
                    why: NO_CONTAINER.into(),
                });
            } else {
                all.no_container.push(name);
            }
            continue;
        }
        for (kind, probe) in kinds {
            let Some(probe) = probe else { continue };
            progress.doing(&format!("running {kind} in {name}"));
            engine.wait_ready(host);
            let first_look = session::FirstLook {
                engine: &name,
                gpus: wanted.gpus,
                hold: obstacle.is_none(),
                on_host,
            };
            let patience = Patience::new(Instant::now() + session::LIMIT, signals);
            let session = ProbeSession::start(host, probe, first_look, patience)?;
            sessions.push((name.clone(), session));
        }
    }
    over_reload(context, &mut sessions, obstacle)?;
    for (name, session) in sessions {
        progress.doing(&format!("tidying up in {name}"));
        let closed = session.close();
        tell(&name, &closed.verified, wanted.gpus, progress);
        if let Some(left) = closed.left {
            progress.warn(&format!(
                "{name}: the image {} is left: {left}",
                probe_image::NAME
            ));
        }
        // Every way of asking may be missing, as for CRI-O before 1.24 without our runtime.
        let is_asked = closed.verified.iter().any(|v| v.expected > 0);
        if wanted.gpus > 0 && !is_asked && closed.not_verified.is_empty() {
            all.not_verified.push(Unverified {
                engine: name,
                how: String::new(),
                why: NO_GPU_ASKED.into(),
            });
        }
        all.verified.extend(closed.verified);
        all.not_verified.extend(closed.not_verified);
    }
    for caveat in &all.caveats {
        progress.warn(caveat);
    }
    for reason in all.reasons() {
        progress.warn(&format!("not verified: {reason}"));
    }
    Ok(all)
}

fn archive(host: &Host) -> Result<tempfile::NamedTempFile, Error> {
    let program = host
        .root()
        .read(PROGRAM)
        .map_err(Error::file(Path::new(PROGRAM), "read"))?;
    let archive = probe_image::build(&program, &host_files::of(host))
        .map_err(Error::file(Path::new(PROGRAM), "make an image of"))?;
    let mut file =
        tempfile::NamedTempFile::new().map_err(Error::file(&std::env::temp_dir(), "write"))?;
    file.write_all(&archive)
        .map_err(Error::file(file.path(), "write"))?;
    Ok(file)
}

/// The reason for not doing a daemon-reload, if there is one.
fn obstacle(host: &Host, reload: bool) -> Option<String> {
    if !reload {
        return Some(Invocation::NoDaemonReload.to_string());
    }
    if init::detect(host.root()) != init::Init::Systemd {
        return Some("systemd does not run here".into());
    }
    // As a user, the request would open a password dialog on a desktop. A user's containers are in
    // no device cgroup that a reload could change anyway.
    if host.user().is_some() {
        return Some("only root may".into());
    }
    match systemd_scopes::containers_losing_gpus(host) {
        Answer::Known(names) => Some(format!("would take GPUs from: {}", names.join(", "))),
        Answer::None => None,
        Answer::Unknown(why) => Some(format!(
            "which containers would lose their GPUs is not known: {why}"
        )),
    }
}

/// Does one daemon-reload for all engines and makes their containers look again.
fn over_reload(
    context: &RunContext,
    sessions: &mut [(String, ProbeSession<'_>)],
    obstacle: Option<String>,
) -> Result<(), Error> {
    let &RunContext {
        host,
        signals,
        progress,
    } = context;
    let mut why_not = obstacle;
    if why_not.is_none() && sessions.iter().any(|(_, s)| s.is_held()) {
        progress.doing("systemctl daemon-reload");
        let argv = ["systemctl", "daemon-reload"].map(str::to_owned);
        let end = Instant::now() + Duration::from_secs(120);
        match Program::run(host, &argv, Patience::new(end, signals)) {
            Ok(out) if out.has_succeeded() => {}
            Ok(out) => why_not = Some(out.last_line().to_owned()),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(e) => why_not = Some(e.to_string()),
        }
    }
    for (name, session) in sessions {
        if let Some(why) = &why_not {
            session.not_again(why);
            continue;
        }
        progress.doing(&format!("looking again in {name}"));
        session.again(signals)?;
    }
    Ok(())
}

fn tell(name: &str, results: &[Verified], gpus: usize, progress: &Progress) {
    if results.is_empty() {
        return;
    }
    let mut good = true;
    for v in results {
        let trouble = v.loss().or(v.driver_trouble.as_deref());
        let bad = if v.ok { trouble } else { Some(&*v.detail) };
        if let Some(bad) = bad {
            good = false;
            progress.failed(&format!("{name} ({}): {bad}", v.how));
        }
    }
    if good && results.iter().any(|v| v.expected > 0) {
        let is_pods = results.iter().any(|v| v.how.starts_with("pod "));
        let what = if is_pods { "pod" } else { "container" };
        let kept = results.iter().any(|v| v.reload == Some(Reload::Ok));
        let kept = if kept {
            ", also after a daemon-reload"
        } else {
            ""
        };
        progress.done(&format!(
            "{name}: a {what} sees {gpus} of {gpus} GPUs{kept}"
        ));
    }
}
