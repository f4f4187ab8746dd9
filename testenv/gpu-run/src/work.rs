//! The run itself, in the layer: sets up, tries every way, times starts, undoes. Prints each row on standard error as
//! it comes, and in the end all of them as JSON on standard output.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use gpu_run::probe_output::{Cuda, ProbeOutput};
use serde::{Deserialize, Serialize};

use crate::command::{CommandOutcome, find, run, set_deadline};
use crate::judge::Baseline;
use crate::options::Options;
use crate::redact::Redactor;
use crate::report::{self, Host, Row, Times, Verdict, ms};
use crate::{files, host, image, layer, read_back, record};

/// Time limit of one program. A driver without a persistence daemon takes seconds to answer.
pub(crate) const LIMIT: Duration = Duration::from_secs(25);
/// Seconds of the run that are kept for undoing.
const UNDO_SECONDS: u64 = 20;
/// Everywhere that a set-up may write.
const WRITTEN: [&str; 5] = [
    "/etc",
    "/var/lib/gpusetup",
    "/usr/lib/systemd",
    "/usr/share/containers",
    "/usr/bin",
];
/// What the engines write below these by themselves.
const WRITTEN_BY_ENGINES: [&str; 2] = ["/etc/docker/key.json", "/etc/cni"];
/// Configuration that the run's own engines must not read, since its data directories, networks and plugins are the
/// host's.
const SET_ASIDE: [&str; 3] = ["/etc/docker", "/etc/containerd", "/var/lib/gpusetup"];

/// The results of a run.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct RunResults {
    pub(crate) host: Host,
    pub(crate) rows: Vec<Row>,
    pub(crate) times: Vec<Times>,
}

pub(crate) struct Work<'a> {
    pub(crate) options: &'a Options,
    pub(crate) results: RunResults,
    pub(crate) baseline: Baseline,
    pub(crate) image: PathBuf,
    pub(crate) archive: PathBuf,
    pub(crate) probe: PathBuf,
}

pub(crate) fn work(options: &Options) -> Result<u8, String> {
    set_deadline(Duration::from_secs(
        options.limit.saturating_sub(UNDO_SECONDS),
    ));
    let brought = Path::new(layer::BROUGHT);
    let mut work = Work {
        options,
        results: RunResults::default(),
        baseline: Baseline::default(),
        image: "/tmp/image".into(),
        archive: "/tmp/image.tar".into(),
        probe: brought.join("programs/gpu-probe"),
    };
    work.prepare(&brought.join("programs"))?;
    let output = brought.join("output");
    work.record(&output.join("recording"));
    let before = work.set_up();
    let mut daemons = Vec::new();
    let tried = work.try_all_ways(&mut daemons);
    work.try_cli();
    work.time_starts(&tried);
    work.undo(before.as_ref());
    drop(daemons);
    let text = serde_json::to_string(&work.results).map_err(|e| e.to_string())?;
    println!("{text}");
    Ok(0)
}

impl Work<'_> {
    pub(crate) fn row(
        &mut self,
        group: &str,
        name: &str,
        verdict: Verdict,
        took: Option<Duration>,
    ) {
        let ms = took
            .filter(|_| !matches!(verdict, Verdict::NotRun(_)))
            .map(ms);
        let row = Row {
            group: group.to_owned(),
            name: name.to_owned(),
            verdict,
            ms,
        };
        if self.results.rows.last().is_none_or(|r| r.group != group) {
            eprintln!("{group}");
        }
        eprint!("{}", report::line(&row));
        self.results.rows.push(row);
    }

    pub(crate) fn expect(
        &mut self,
        group: &str,
        name: &str,
        outcome: &CommandOutcome,
        codes: &[i32],
    ) -> bool {
        let is_right = outcome.code().is_some_and(|c| codes.contains(&c));
        let verdict = if is_right {
            Verdict::Ok
        } else {
            Verdict::Failed(outcome.failure())
        };
        self.row(group, name, verdict, Some(outcome.took));
        is_right
    }

    /// Installs the programs and, if asked for, the fake driver; makes the image; and tries the host itself.
    fn prepare(&mut self, programs: &Path) -> Result<(), String> {
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(programs.join("tree/.")).arg("/");
        ensure_success(&run(&mut copy, LIMIT), "installing gpusetup in the layer")?;
        if let Some(gpus) = self.options.fake {
            let mut fake = Command::new(programs.join("fake/fake-driver"));
            fake.args([
                "install",
                "--root",
                "/",
                "--live",
                "--gpus",
                &gpus.to_string(),
            ]);
            ensure_success(&run(&mut fake, LIMIT), "the fake driver")?;
        }
        let host = host::describe(Path::new("/"));
        if host.driver.is_none() {
            return Err(
                "no NVIDIA driver is loaded on this host (no /proc/driver/nvidia/version)".into(),
            );
        }
        self.baseline.gpus = host.gpus.clone();
        self.results.host = host;
        self.results.host.programs = host::versions();
        let parts = ["nodes", "add-vectors", "vulkan", "egl"];
        let outcome = run(Command::new(&self.probe).args(parts), LIMIT);
        self.baseline.host = ProbeOutput::from_output(&outcome.out);
        if let Some(Cuda::Devices { version, .. }) = self.baseline.host.cuda {
            self.results.host.cuda = Some(format!("{}.{}", version / 1000, version % 1000 / 10));
        }
        let host_verdict = if self.baseline.gpus.is_empty() {
            Verdict::Failed("the driver is loaded and has no GPU".into())
        } else {
            self.baseline.host_verdict()
        };
        self.row(
            "host",
            "CUDA adds vectors on every GPU",
            host_verdict,
            Some(outcome.took),
        );
        let start = Instant::now();
        image::lay_out(&self.image, &self.probe)?;
        image::archive(&self.image, &self.archive)?;
        self.row(
            "host",
            "an image of this host's own files",
            Verdict::Ok,
            Some(start.elapsed()),
        );
        Ok(())
    }

    fn record(&mut self, to: &Path) {
        let start = Instant::now();
        let host = &self.results.host;
        let mut redactor = Redactor::new(&host.name, self.options.keep_identifiers);
        redactor.number_first(host.gpus.iter().map(|g| g.uuid.clone()));
        let verdict =
            match record::record(Path::new("/"), to, host, &self.options.date, &mut redactor) {
                Err(e) => Verdict::Failed(e),
                Ok(()) => self.reads_back(to, &mut redactor),
            };
        self.row(
            "host",
            "a recording, which reads back",
            verdict,
            Some(start.elapsed()),
        );
    }

    fn reads_back(&self, recording: &Path, redactor: &mut Redactor) -> Verdict {
        let host = &self.results.host;
        match read_back::read(recording) {
            Err(e) => Verdict::Failed(e),
            Ok(recorded) => {
                let uuids: Vec<String> = host.gpus.iter().map(|g| redactor.text(&g.uuid)).collect();
                if Some(&recorded.version) != host.driver.as_ref() || recorded.uuids != uuids {
                    Verdict::Failed(format!(
                        "the recording has driver {} and GPUs {:?}",
                        recorded.version, recorded.uuids
                    ))
                } else if recorded.libraries == 0 {
                    Verdict::Failed("the recording has no library of the driver".into())
                } else {
                    Verdict::Ok
                }
            }
        }
    }

    pub(crate) fn has(&self, engine: &str, program: &str) -> Result<(), String> {
        if self.options.without.iter().any(|w| w == engine) {
            Err(format!("left out by --without {engine}"))
        } else if find(program).is_none() {
            Err(format!("{program} is not installed"))
        } else {
            Ok(())
        }
    }

    /// The engines that `gpusetup install` is told to set up.
    fn engines(&self) -> Vec<&'static str> {
        let all = [
            ("docker", "dockerd"),
            ("containerd", "containerd"),
            ("podman", "podman"),
        ];
        all.into_iter()
            .filter(|(name, program)| self.has(name, program).is_ok())
            .map(|(name, _)| name)
            .collect()
    }

    /// Sets the engines up. Returns the files as they were before; None where there is nothing to undo.
    fn set_up(&mut self) -> Option<files::Snapshot> {
        let group = "gpusetup";
        let outcome = run(Command::new("gpusetup").arg("detect"), LIMIT);
        self.expect(group, "detect", &outcome, &[0]);
        let outcome = run(
            Command::new("gpusetup").args(["plan", "--no-restart", "--existing", "adopt"]),
            LIMIT,
        );
        self.expect(
            group,
            "plan, on the host's configuration",
            &outcome,
            &[0, 2],
        );
        for path in SET_ASIDE {
            let _ = fs::remove_dir_all(path);
        }
        // dockerd creates it if it is missing.
        let _ = fs::create_dir("/etc/docker");
        let before = snapshot_written();
        let engines = self.engines();
        if engines.is_empty() {
            self.row(
                group,
                "install",
                Verdict::NotRun("this host has no engine".into()),
                None,
            );
            return None;
        }
        let mut command = Command::new("gpusetup");
        command.args(["install", "--yes", "--no-restart", "--existing", "adopt"]);
        command.args(engines.iter().flat_map(|e| ["--engine", e]));
        let outcome = run(&mut command, LIMIT);
        self.expect(
            group,
            &format!("install: {}", engines.join(", ")),
            &outcome,
            &[0],
        );
        let outcome = run(Command::new("gpusetup").args(["cdi", "check"]), LIMIT);
        self.expect(group, "the CDI spec", &outcome, &[0]);
        Some(before)
    }

    fn undo(&mut self, before: Option<&files::Snapshot>) {
        set_deadline(Duration::from_secs(UNDO_SECONDS));
        let Some(before) = before else {
            self.row(
                "after",
                "gpusetup undo",
                Verdict::NotRun("nothing was set up".into()),
                None,
            );
            return;
        };
        let outcome = run(
            Command::new("gpusetup").args(["undo", "--yes", "--no-restart"]),
            LIMIT,
        );
        if self.expect("after", "gpusetup undo", &outcome, &[0]) {
            let differences = files::differences(before, &snapshot_written());
            let verdict = match differences.as_slice() {
                [] => Verdict::Ok,
                some => Verdict::Failed(files::summary(some)),
            };
            self.row("after", "every file is as before the set-up", verdict, None);
        }
    }
}

/// The files that gpusetup may have written, but for those in /run: its service, which is installed in the layer, makes
/// them anew whether or not an engine is set up, so an undo leaves them.
fn snapshot_written() -> files::Snapshot {
    let mut snapshot = files::snapshot(&WRITTEN);
    snapshot.retain(|path, _| !WRITTEN_BY_ENGINES.iter().any(|o| path.starts_with(o)));
    snapshot
}

pub(crate) fn ensure_success(outcome: &CommandOutcome, what: &str) -> Result<(), String> {
    if outcome.is_success() {
        Ok(())
    } else {
        Err(format!("{what}: {}", outcome.failure()))
    }
}
