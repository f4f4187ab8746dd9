//! Verifies one engine: runs its containers, keeps containers that look twice running, and removes everything of ours
//! at the end.

use std::time::{Duration, Instant};

use crate::engines::engine::{Case, Gets, Probe};
use crate::engines::probe_image;
use crate::error::Error;
use crate::error::program_fault::ProgramFault;
use crate::host::Host;
use crate::host::process::Output;
use crate::host::signals::Interrupt;
use crate::verify::driver::OnHost;
use crate::verify::probe_program::{Patience, Program};
use crate::verify::probe_report::ProbeLine;
use crate::verify::verified::{Reload, Unverified, Verified};

/// Time limit for all of an engine's first looks together; emulated hosts take a minute or more.
pub const LIMIT: Duration = Duration::from_secs(120);
/// Time limit for all of its second looks; each has at least half of it.
const SECOND_LIMIT: Duration = Duration::from_secs(60);
/// Time limit for each cleanup command.
const TIDY_LIMIT: Duration = Duration::from_secs(20);

/// The parameters of an engine's first looks.
#[derive(Clone, Copy, Debug)]
pub struct FirstLook<'a> {
    /// The engine.
    pub engine: &'a str,
    /// The number of GPUs that a container gets that requests all.
    pub gpus: usize,
    /// Containers that get GPUs keep running, to look again.
    pub hold: bool,
    /// What works on the host.
    pub on_host: OnHost,
}

/// An engine with our containers in it.
pub struct ProbeSession<'a> {
    host: &'a Host,
    probe: Probe,
    looks: Vec<Look>,
    /// Whether a container may be left because its command did not end as it should.
    is_dirty: bool,
    is_closed: bool,
}

/// The results of an engine.
#[derive(Debug, Default)]
pub struct Closed {
    /// The results of its containers.
    pub verified: Vec<Verified>,
    /// What could not be verified.
    pub not_verified: Vec<Unverified>,
    /// What is left behind in it.
    pub left: Option<String>,
}

/// One container and its result.
struct Look {
    verified: Verified,
    /// Why nothing is known about the container, if so.
    not_verified: Option<String>,
    /// The container's command, if it is still running and waits to look again.
    program: Option<Program>,
}

impl<'a> ProbeSession<'a> {
    /// Loads the image and makes each container look once. Fails only if the user interrupts; any other failure is
    /// part of the result.
    pub fn start(
        host: &'a Host,
        probe: Probe,
        first_look: FirstLook<'_>,
        patience: Patience<'_>,
    ) -> Result<Self, Error> {
        let FirstLook {
            engine,
            gpus,
            hold,
            on_host,
        } = first_look;
        let mut session = Self {
            host,
            looks: Vec::new(),
            is_dirty: false,
            is_closed: false,
            probe,
        };
        if let Some(why) = session.probe.obstacle.clone() {
            for case in session.probe.cases.clone() {
                let mut look = Look::new(engine, &case, gpus);
                look.not_verified = Some(why.clone());
                session.looks.push(look);
            }
            session.is_closed = true;
            return Ok(session);
        }
        // Containers that a killed run left behind would conflict with ours.
        session.remove_leftovers();
        // Each look has at least half of the time, even if those before it have used all of it up.
        let each = patience.left() / 2;
        let loaded = session.load(patience);
        if let Err(Error::Interrupted) = loaded {
            return Err(Error::Interrupted);
        }
        for case in session.probe.cases.clone() {
            let mut look = Look::new(engine, &case, gpus);
            let line = match &loaded {
                Ok(()) => {
                    let patience = patience.at_least(each);
                    look.first(host, &case, hold && case.gets == Gets::Gpus, patience)
                }
                Err(e) => Err(e.clone()),
            };
            session.is_dirty |= line.is_err();
            match line {
                Ok(ProbeLine::Report(report)) => look.verified.judge(&report, case.gets, on_host),
                Ok(ProbeLine::NotVerified(why)) => look.not_verified = Some(why),
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(e) => look.verified.detail = e.to_string(),
            }
            session.looks.push(look);
        }
        session.excuse_unused();
        Ok(session)
    }

    fn load(&mut self, patience: Patience<'_>) -> Result<(), Error> {
        for argv in &self.probe.load {
            let out = Program::run(self.host, argv, patience)?;
            if !out.has_succeeded() {
                let message = out.last_line().to_owned();
                return Err(Error::program(
                    &argv.join(" "),
                    ProgramFault::Failed(message),
                ));
            }
        }
        Ok(())
    }

    /// If containers may never have run here and the container that requests nothing does not run either, that is
    /// still so, and shows nothing about GPUs.
    fn excuse_unused(&mut self) {
        let runs = |l: &Look| l.verified.ran() || l.not_verified.is_some();
        if !self.probe.is_unused || self.looks.iter().any(runs) {
            return;
        }
        for look in &mut self.looks {
            look.not_verified = Some(format!("no pod runs here: {}", look.verified.detail));
        }
    }

    /// Whether a container waits to look again.
    pub fn is_held(&self) -> bool {
        self.looks.iter().any(|l| l.program.is_some())
    }

    /// Records why the containers do not look again.
    pub fn not_again(&mut self, why: &str) {
        for look in &mut self.looks {
            if look.verified.expected > 0 {
                look.verified.reload = Some(Reload::NotTried(why.to_owned()));
            }
        }
    }

    /// Makes the held containers look again after systemd's reload.
    pub fn again(&mut self, signals: &Interrupt) -> Result<(), Error> {
        let patience = Patience::new(Instant::now() + SECOND_LIMIT, signals);
        for look in &mut self.looks {
            let Some(program) = &mut look.program else {
                if look.verified.expected > 0 {
                    look.verified.reload = Some(Reload::NotTried("no container ran".into()));
                }
                continue;
            };
            program.tell(probe_image::AGAIN);
            let again = match hear(program, patience.at_least(SECOND_LIMIT / 2)) {
                Ok(Some(ProbeLine::Report(report))) => look.verified.compare_after_reload(&report),
                Ok(Some(ProbeLine::NotVerified(why))) => Reload::NotTried(why),
                Ok(None) => Reload::NotTried("its container does not wait".into()),
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(e) => Reload::Failed(e.to_string()),
            };
            look.verified.reload = Some(again);
        }
        Ok(())
    }

    /// Ends the containers and removes the image. Returns the results and what is left behind.
    pub fn close(mut self) -> Closed {
        let left = if self.is_closed { None } else { self.tidy() };
        let mut closed = Closed {
            left,
            ..Closed::default()
        };
        for look in std::mem::take(&mut self.looks) {
            match look.not_verified {
                None => closed.verified.push(look.verified),
                Some(why) => closed.not_verified.push(Unverified {
                    engine: look.verified.engine,
                    how: look.verified.how,
                    why,
                }),
            }
        }
        closed
    }

    fn tidy(&mut self) -> Option<String> {
        self.is_closed = true;
        for program in self.looks.iter_mut().filter_map(|l| l.program.take()) {
            let ended = end(program, Patience::whatever_comes(TIDY_LIMIT));
            self.is_dirty |= !ended.is_ok_and(|out| out.has_succeeded());
        }
        if self.is_dirty {
            self.remove_leftovers();
        }
        let mut left = None;
        for (n, argv) in self.probe.unload.iter().enumerate() {
            let patience = Patience::whatever_comes(TIDY_LIMIT);
            let why = match Program::run(self.host, argv, patience) {
                Ok(out) if out.has_succeeded() => continue,
                Ok(out) => out.last_line().to_owned(),
                Err(e) => e.to_string(),
            };
            if n == 0 {
                left = Some(format!("{}: {why}", argv.join(" ")));
            }
        }
        left
    }

    fn remove_leftovers(&self) {
        for argv in &self.probe.leftovers {
            // Usually there are none, and many programs report that as a failure.
            let _ = Program::run(self.host, argv, Patience::whatever_comes(TIDY_LIMIT));
        }
    }
}

impl Drop for ProbeSession<'_> {
    fn drop(&mut self) {
        if !self.is_closed {
            self.tidy();
        }
    }
}

impl Look {
    fn new(engine: &str, case: &Case, gpus: usize) -> Self {
        let expected = match case.gets {
            Gets::Gpus => gpus,
            Gets::Nothing | Gets::NothingByPolicy => 0,
        };
        Self {
            verified: Verified::nothing(engine, case, expected),
            not_verified: None,
            program: None,
        }
    }

    /// The first report of a new container. `hold`: it keeps running and waits.
    fn first(
        &mut self,
        host: &Host,
        case: &Case,
        hold: bool,
        patience: Patience<'_>,
    ) -> Result<ProbeLine, Error> {
        let program = Program::start(host, &case.argv)?;
        let line = hear(&program, patience)?;
        if hold && let Some(ProbeLine::Report(report)) = line {
            self.program = Some(program);
            return Ok(ProbeLine::Report(report));
        }
        let out = end(program, patience)?;
        match line {
            Some(ProbeLine::Report(report)) if out.has_succeeded() => Ok(ProbeLine::Report(report)),
            Some(ProbeLine::NotVerified(why)) => Ok(ProbeLine::NotVerified(why)),
            _ => Err(Error::Container(complaint(&out).to_owned())),
        }
    }
}

/// The line that names the error. Docker's last line only points to its help.
fn complaint(out: &Output) -> &str {
    let is_help = |l: &&str| l.starts_with("See '") || l.starts_with("Run '");
    let mut lines = out.stderr.lines().filter(|l| !l.trim().is_empty());
    lines.rfind(|l| !is_help(l)).unwrap_or(out.last_line())
}

/// The probe's next report; `None` if it has ended.
fn hear(program: &Program, patience: Patience<'_>) -> Result<Option<ProbeLine>, Error> {
    while let Some(line) = program.hear(patience)? {
        if let Some(parsed) = ProbeLine::parse(&line) {
            return Ok(Some(parsed));
        }
    }
    Ok(None)
}

/// Ends a container. Not every engine passes on the end of input, so a line is sent as well, which also ends the
/// container's wait.
fn end(mut program: Program, patience: Patience<'_>) -> Result<Output, Error> {
    program.tell(probe_image::AGAIN);
    program.end(patience)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::engines::engine::argv;

    const SEES: &str = r#"{"nodes":[{"path":"/dev/nvidia0","open":"ENXIO"}],"denied":{"tried":[1],"leaked":[],"mknod":null},"libraries":[{"name":"libcuda.so.1","path":"/l","exists":true}]}"#;

    const FIRST_LOOK: FirstLook<'_> = FirstLook {
        engine: "files",
        gpus: 1,
        hold: true,
        on_host: OnHost {
            nvidia_smi: true,
            cuda: true,
        },
    };

    /// An engine simulated with files: `image` exists while our image is loaded, `container` while
    /// a container exists.
    struct Engine {
        dir: tempfile::TempDir,
        host: Host,
    }

    impl Engine {
        fn new() -> Self {
            Self {
                dir: tempfile::tempdir().unwrap(),
                host: Host::open(Path::new("/"), Path::new("/")).unwrap(),
            }
        }

        fn probe(&self, load: &str, container: &str) -> Probe {
            let sh = |script: &str| {
                let script = format!("cd {} && {script}", self.dir.path().display());
                argv(&[&["sh", "-c", &script]])
            };
            Probe {
                load: vec![sh(load)],
                cases: vec![Case {
                    how: "--gpus all".into(),
                    argv: sh(&format!("touch container; {container}; rm container")),
                    gets: Gets::Gpus,
                }],
                leftovers: vec![sh("rm container")],
                unload: vec![sh("rm image")],
                ..Probe::default()
            }
        }

        /// What we have left behind in it.
        fn left(&self) -> Vec<String> {
            let entries = std::fs::read_dir(self.dir.path()).unwrap().flatten();
            entries
                .map(|e| e.file_name().to_string_lossy().into_owned())
                .collect()
        }

        fn start(
            &self,
            container: &str,
            limit: u64,
            signals: &Interrupt,
        ) -> Result<ProbeSession<'_>, Error> {
            let probe = self.probe("touch image", container);
            let patience = Patience::new(Instant::now() + Duration::from_millis(limit), signals);
            ProbeSession::start(&self.host, probe, FIRST_LOOK, patience)
        }
    }

    fn closed(session: ProbeSession<'_>) -> (Vec<Verified>, Option<String>) {
        let closed = session.close();
        assert!(closed.not_verified.is_empty());
        (closed.verified, closed.left)
    }

    #[test]
    fn a_container_reports_twice_and_is_removed() {
        let (engine, signals) = (Engine::new(), Interrupt::noted(false));
        let container = format!("echo noise; echo '{SEES}'; read x; echo '{SEES}'");
        let mut session = engine.start(&container, 60_000, &signals).unwrap();
        assert!(session.is_held());
        assert_eq!(engine.left().len(), 2);
        session.again(&signals).unwrap();
        let (found, left) = closed(session);
        assert_eq!((left, engine.left()), (None, Vec::new()));
        assert!(found[0].ok, "{}", found[0].detail);
        assert_eq!(found[0].reload, Some(Reload::Ok));
        assert_eq!(found[0].libraries[0].name, "libcuda.so.1");
    }

    #[test]
    fn gpus_lost_between_the_two_reports_are_reported() {
        let (engine, signals) = (Engine::new(), Interrupt::noted(false));
        let container = format!(
            "echo '{SEES}'; read x; echo '{}'",
            SEES.replace("ENXIO", "EPERM")
        );
        let mut session = engine.start(&container, 60_000, &signals).unwrap();
        session.again(&signals).unwrap();
        let (found, _) = closed(session);
        assert!(found[0].ok);
        assert!(found[0].loss().unwrap().contains("0 of 1 GPUs are left"));
    }

    /// The driver's own programs are run as well, because their presence alone shows nothing.
    #[test]
    fn a_driver_whose_programs_do_not_work_is_told() {
        let (engine, signals) = (Engine::new(), Interrupt::noted(false));
        let driver =
            r#""driver":{"nvidia_smi":{"is":"no-program"},"cuda":{"is":"ok","says":[1,""]}}"#;
        let sees = SEES.replacen('{', &format!("{{{driver},"), 1);
        let session = engine
            .start(&format!("echo '{sees}'; read x"), 60_000, &signals)
            .unwrap();
        let (found, _) = closed(session);
        let told = found[0].driver_trouble.as_deref().unwrap();
        assert!(found[0].ok && told.contains("wrapper"), "{told}");
    }

    #[test]
    fn a_container_that_hangs_is_reported_and_removed() {
        let (engine, signals) = (Engine::new(), Interrupt::noted(false));
        let started = Instant::now();
        let session = engine.start("sleep 1000", 1500, &signals).unwrap();
        let (found, left) = closed(session);
        assert!(started.elapsed() < Duration::from_secs(100));
        assert!(
            found[0].detail.contains("not done after"),
            "{}",
            found[0].detail
        );
        assert_eq!((left, engine.left()), (None, Vec::new()));
    }

    #[test]
    fn a_container_that_stops_early_leaves_nothing() {
        let (engine, signals) = (Engine::new(), Interrupt::noted(false));
        let container = format!("echo '{SEES}'; read x");
        drop(engine.start(&container, 60_000, &signals).unwrap());
        assert!(engine.left().is_empty());
        // Ctrl-C during the wait.
        let stopped = engine.start("sleep 1000", 60_000, &Interrupt::noted(true));
        assert!(matches!(stopped.err(), Some(Error::Interrupted)));
        assert!(engine.left().is_empty());
    }

    #[test]
    fn an_engine_that_cannot_load_the_image_is_reported_for_each_container() {
        let (engine, signals) = (Engine::new(), Interrupt::noted(false));
        let probe = engine.probe("echo no daemon >&2; exit 1", "true");
        let patience = Patience::new(Instant::now() + LIMIT, &signals);
        let session = ProbeSession::start(&engine.host, probe, FIRST_LOOK, patience).unwrap();
        let (found, left) = closed(session);
        assert!(
            found[0].detail.ends_with("no daemon"),
            "{}",
            found[0].detail
        );
        assert!(!found[0].ok && left.is_some());
    }

    #[test]
    fn dockers_hint_at_its_help_is_not_reported_as_the_error() {
        let out = |stderr: &str| Output {
            code: Some(125),
            stdout: String::new(),
            stderr: stderr.into(),
        };
        let help = "docker: unknown runtime\n\nRun 'docker run --help' for more information\n";
        assert_eq!(complaint(&out(help)), "docker: unknown runtime");
        assert_eq!(complaint(&out("")), "it said nothing");
    }

    /// Why the one container was not verified, with what is left behind.
    fn not_verified(engine: &Engine, probe: Probe) -> String {
        let signals = Interrupt::noted(false);
        let patience = Patience::new(Instant::now() + LIMIT, &signals);
        let session = ProbeSession::start(&engine.host, probe, FIRST_LOOK, patience).unwrap();
        assert!(!session.is_held());
        let closed = session.close();
        assert_eq!((closed.verified.len(), closed.left), (0, None));
        assert!(engine.left().is_empty());
        let [one] = &closed.not_verified[..] else {
            panic!("{:?}", closed.not_verified)
        };
        assert_eq!((&*one.engine, &*one.how), ("files", "--gpus all"));
        one.why.clone()
    }

    #[test]
    fn one_of_which_nothing_is_known_is_neither_good_nor_failed() {
        let engine = Engine::new();
        let told = "echo '{\"not_verified\": \"no engine answers\"}'; rm container; exit 7";
        let why = not_verified(&engine, engine.probe("touch image", told));
        assert_eq!(why, "no engine answers");
        // Nothing is started, and there is nothing to remove.
        let mut probe = engine.probe("touch image", "true");
        probe.obstacle = Some("no client".into());
        assert_eq!(not_verified(&engine, probe), "no client");
    }

    #[test]
    fn where_no_container_ever_ran_one_that_does_not_is_no_failure() {
        let engine = Engine::new();
        let dies = "rm container; echo no sandbox >&2; exit 1";
        let mut probe = engine.probe("touch image", dies);
        probe.is_unused = true;
        let why = not_verified(&engine, probe);
        assert!(
            why.contains("no pod runs here") && why.contains("no sandbox"),
            "{why}"
        );
        let (engine, signals) = (Engine::new(), Interrupt::noted(false));
        let (found, _) = closed(engine.start(dies, 60_000, &signals).unwrap());
        assert!(!found[0].ok);
    }
}
