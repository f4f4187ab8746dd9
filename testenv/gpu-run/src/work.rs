//! The run itself, in the layer: sets up, tries every way, times, undoes. Says each row as it comes, and at the end all of
//! them as a document on standard output.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use gpu_run::seen::{Cuda, Seen};
use serde::{Deserialize, Serialize};

use crate::command::{Ended, find, run, set_deadline};
use crate::judge::Measure;
use crate::options::Options;
use crate::redact::Redactor;
use crate::report::{self, Host, Row, Times, Verdict, ms};
use crate::{files, host, image, layer, read_back, record};

/// Of one program; a driver that nobody keeps awake takes seconds to answer.
pub(crate) const LIMIT: Duration = Duration::from_secs(25);
/// Kept of the run's time for taking everything back.
const FOR_UNDO: u64 = 20;
/// Whatever a set-up may write to.
const WRITTEN: [&str; 7] = [
    "/etc",
    "/var/lib/gpusetup",
    "/run/cdi",
    "/run/gpusetup",
    "/usr/lib/systemd",
    "/usr/share/containers",
    "/usr/bin",
];
/// What the engines write there by themselves.
const OF_ENGINES: [&str; 2] = ["/etc/docker/key.json", "/etc/cni"];
/// Configuration that the run's own engines do not read, since it is for the host's: places of data, networks, plugins.
const SET_ASIDE: [&str; 3] = ["/etc/docker", "/etc/containerd", "/var/lib/gpusetup"];

/// What the run has to tell.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) host: Host,
    pub(crate) rows: Vec<Row>,
    pub(crate) times: Vec<Times>,
}

pub(crate) struct Work<'a> {
    pub(crate) options: &'a Options,
    pub(crate) told: Told,
    pub(crate) measure: Measure,
    pub(crate) image: PathBuf,
    pub(crate) archive: PathBuf,
    pub(crate) probe: PathBuf,
}

pub(crate) fn work(options: &Options) -> Result<u8, String> {
    set_deadline(Duration::from_secs(options.limit.saturating_sub(FOR_UNDO)));
    let brought = Path::new(layer::BROUGHT);
    let mut work = Work {
        options,
        told: Told::default(),
        measure: Measure::default(),
        image: "/tmp/image".into(),
        archive: "/tmp/image.tar".into(),
        probe: brought.join("programs/gpu-probe"),
    };
    work.prepare(&brought.join("programs"))?;
    let output = brought.join("output");
    work.record(&output.join("recording"));
    let before = work.set_up();
    let mut daemons = Vec::new();
    let tried = work.all_ways(&mut daemons);
    work.cli();
    work.times(&tried);
    work.take_back(before.as_ref());
    drop(daemons);
    let text = serde_json::to_string(&work.told).map_err(|e| e.to_string())?;
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
        if self.told.rows.last().is_none_or(|r| r.group != group) {
            eprintln!("{group}");
        }
        eprint!("{}", report::line(&row));
        self.told.rows.push(row);
    }

    pub(crate) fn expect(&mut self, group: &str, name: &str, ended: &Ended, codes: &[i32]) -> bool {
        let is_right = ended.code().is_some_and(|c| codes.contains(&c));
        let verdict = if is_right {
            Verdict::Ok
        } else {
            Verdict::Failed(ended.failure())
        };
        self.row(group, name, verdict, Some(ended.took));
        is_right
    }

    /// The programs, the fake driver where it is asked for, the image, and what the host itself does.
    fn prepare(&mut self, programs: &Path) -> Result<(), String> {
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(programs.join("tree/.")).arg("/");
        done(&run(&mut copy, LIMIT), "installing gpusetup in the layer")?;
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
            done(&run(&mut fake, LIMIT), "the fake driver")?;
        }
        let found = host::look(Path::new("/"));
        if found.driver.is_none() {
            return Err(
                "no NVIDIA driver is loaded on this host (no /proc/driver/nvidia/version)".into(),
            );
        }
        self.measure.gpus = found.gpus.clone();
        self.told.host = found;
        self.told.host.programs = host::versions();
        let parts = ["nodes", "add-vectors", "vulkan", "egl"];
        let ended = run(Command::new(&self.probe).args(parts), LIMIT);
        self.measure.host = Seen::from_output(&ended.out);
        if let Some(Cuda::Devices { version, .. }) = self.measure.host.cuda {
            self.told.host.cuda = Some(format!("{}.{}", version / 1000, version % 1000 / 10));
        }
        let host = if self.measure.gpus.is_empty() {
            Verdict::Failed("the driver is loaded and has no GPU".into())
        } else {
            self.measure.host_verdict()
        };
        self.row(
            "host",
            "CUDA adds vectors on every GPU",
            host,
            Some(ended.took),
        );
        let begun = Instant::now();
        image::lay_out(&self.image, &self.probe)?;
        image::archive(&self.image, &self.archive)?;
        self.row(
            "host",
            "an image of this host's own files",
            Verdict::Ok,
            Some(begun.elapsed()),
        );
        Ok(())
    }

    fn record(&mut self, to: &Path) {
        let begun = Instant::now();
        let host = &self.told.host;
        let mut redactor = Redactor::new(&host.name, self.options.keep_identifiers);
        redactor.knows(host.gpus.iter().map(|g| g.uuid.clone()));
        let verdict =
            match record::record(Path::new("/"), to, host, &self.options.date, &mut redactor) {
                Err(e) => Verdict::Failed(e),
                Ok(()) => self.reads_back(to, &mut redactor),
            };
        self.row(
            "host",
            "a recording, which reads back",
            verdict,
            Some(begun.elapsed()),
        );
    }

    fn reads_back(&self, recording: &Path, redactor: &mut Redactor) -> Verdict {
        let host = &self.told.host;
        match read_back::read(recording) {
            Err(e) => Verdict::Failed(e),
            Ok(found) => {
                let uuids: Vec<String> = host.gpus.iter().map(|g| redactor.text(&g.uuid)).collect();
                if Some(&found.version) != host.driver.as_ref() || found.uuids != uuids {
                    Verdict::Failed(format!(
                        "driver {} and GPUs {:?} are read",
                        found.version, found.uuids
                    ))
                } else if found.libraries == 0 {
                    Verdict::Failed("no library of the driver is read".into())
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

    /// Engines that `gpusetup install` is told to set up.
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

    /// Sets the engines up, and says what the files were before; none where there is nothing to take back.
    fn set_up(&mut self) -> Option<files::Snapshot> {
        let group = "gpusetup";
        let ended = run(Command::new("gpusetup").arg("detect"), LIMIT);
        self.expect(group, "detect", &ended, &[0]);
        let ended = run(
            Command::new("gpusetup").args(["plan", "--no-restart", "--existing", "adopt"]),
            LIMIT,
        );
        self.expect(group, "plan, on the host's configuration", &ended, &[0, 2]);
        for path in SET_ASIDE {
            let _ = fs::remove_dir_all(path);
        }
        // dockerd makes it where it is not.
        let _ = fs::create_dir("/etc/docker");
        let before = written();
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
        let ended = run(&mut command, LIMIT);
        self.expect(
            group,
            &format!("install: {}", engines.join(", ")),
            &ended,
            &[0],
        );
        let ended = run(Command::new("gpusetup").args(["cdi", "check"]), LIMIT);
        self.expect(group, "the CDI spec", &ended, &[0]);
        Some(before)
    }

    fn take_back(&mut self, before: Option<&files::Snapshot>) {
        set_deadline(Duration::from_secs(FOR_UNDO));
        let Some(before) = before else {
            self.row(
                "after",
                "gpusetup undo",
                Verdict::NotRun("nothing was set up".into()),
                None,
            );
            return;
        };
        let ended = run(
            Command::new("gpusetup").args(["undo", "--yes", "--no-restart"]),
            LIMIT,
        );
        if self.expect("after", "gpusetup undo", &ended, &[0]) {
            let differences = files::differences(before, &written());
            let verdict = match differences.as_slice() {
                [] => Verdict::Ok,
                some => Verdict::Failed(files::sentence(some)),
            };
            self.row("after", "every file is as before the set-up", verdict, None);
        }
    }
}

/// What gpusetup can have written.
fn written() -> files::Snapshot {
    let mut found = files::snapshot(&WRITTEN);
    found.retain(|path, _| !OF_ENGINES.iter().any(|o| path.starts_with(o)));
    found
}

pub(crate) fn done(ended: &Ended, what: &str) -> Result<(), String> {
    if ended.is_success() {
        Ok(())
    } else {
        Err(format!("{what}: {}", ended.failure()))
    }
}
