//! Tries the ways of every engine, one after the other: a plain container first, then each way, then the timings.

use std::process::Command;
use std::time::Duration;

use gpu_run::probe_output::Graphics;

use crate::command::{CommandOutcome, find, run, time_left};
use crate::daemons::{self, Daemon};
use crate::judge::{Baseline, GpuRequest, host_graphics};
use crate::report::Verdict;
use crate::ways::{self, Engine, Way, WayContext};
use crate::work::{LIMIT, Work, ensure_success};
use crate::{cli, image, times};

/// The most time that one engine's timing may take.
const MAX_TIMING: Duration = Duration::from_secs(18);
/// How much of the run's time has to be left when the timing ends.
const RESERVE: Duration = Duration::from_secs(5);

/// An engine that starts containers, and its ways that did not fail.
pub(crate) struct TriedEngine {
    engine: Engine,
    working_ways: Vec<String>,
}

/// How an engine is started: its name for --without, its group of rows, its program, its daemon if it has one, and
/// the command that loads an image into it.
struct EngineStart<'a> {
    name: &'a str,
    group: &'a str,
    program: &'a str,
    daemon: Option<fn() -> Result<Daemon, String>>,
    load: &'a [&'a str],
}

impl Work<'_> {
    /// Tries all engines. The daemons that they need are added to `running`.
    pub(crate) fn try_all_ways(&mut self, running: &mut Vec<Daemon>) -> Vec<TriedEngine> {
        let gpus = self.baseline.gpus.clone();
        let (cgroup, image) = (self.options.cgroup.clone(), self.image.clone());
        let context = WayContext {
            cgroup: &cgroup,
            image: &image,
            gpus: &gpus,
        };
        let mut working_engines = Vec::new();
        let mut tried = Vec::new();
        let containerd = EngineStart {
            name: "containerd",
            group: "containerd (ctr)",
            program: "containerd",
            daemon: Some(daemons::containerd),
            load: &["ctr", "images", "import"],
        };
        if self.start_engine(&containerd, running) {
            let version = run(Command::new("containerd").arg("--version"), LIMIT).out;
            let engine = ways::containerd(&context, ways::version(&version));
            working_engines.extend(self.try_engine(engine, &mut tried).then_some("containerd"));
        }
        let docker = EngineStart {
            name: "docker",
            group: "docker",
            program: "dockerd",
            daemon: Some(daemons::dockerd),
            load: &["docker", "load", "-qi"],
        };
        if self.start_engine(&docker, running) {
            let mut command = Command::new("docker");
            command.args(["version", "--format", "{{.Server.Version}}"]);
            let engine = ways::docker(&context, ways::version(&run(&mut command, LIMIT).out));
            working_engines.extend(self.try_engine(engine, &mut tried).then_some("docker"));
        }
        let podman = EngineStart {
            name: "podman",
            group: "podman",
            program: "podman",
            daemon: None,
            load: &["podman", "load", "-qi"],
        };
        if self.start_engine(&podman, running) {
            let engine = ways::podman(&context);
            working_engines.extend(self.try_engine(engine, &mut tried).then_some("podman"));
        }
        for low_level in ["runc", "crun"] {
            let engine = self
                .has(low_level, low_level)
                .and_then(|()| ways::shim(&context, low_level));
            match engine {
                Ok(engine) => drop(self.try_engine(engine, &mut tried)),
                Err(why) => {
                    let group = format!("shim on {low_level}");
                    self.row(&group, "all ways", Verdict::NotRun(why), None);
                }
            }
        }
        self.verify(&working_engines);
        tried
    }

    /// Starts the engine's daemon and loads the image. If that fails, a row says why.
    fn start_engine(&mut self, engine: &EngineStart, running: &mut Vec<Daemon>) -> bool {
        let started = self
            .has(engine.name, engine.program)
            .and_then(|()| engine.daemon.map(|start| start()).transpose())
            .and_then(|daemon| {
                running.extend(daemon);
                let mut command = Command::new(engine.load[0]);
                command.args(&engine.load[1..]).arg(&self.archive);
                ensure_success(&run(&mut command, LIMIT), "loading the image")
            });
        if let Err(why) = &started {
            self.row(engine.group, "all ways", Verdict::NotRun(why.clone()), None);
        }
        started.is_ok()
    }

    /// `gpusetup verify` on the engines that start containers here.
    fn verify(&mut self, working_engines: &[&str]) {
        if working_engines.is_empty() {
            let why = "no engine starts a plain container here";
            self.row("gpusetup", "verify", Verdict::NotRun(why.into()), None);
            return;
        }
        let mut command = Command::new("gpusetup");
        command.args(["verify", "--no-daemon-reload"]);
        command.args(working_engines.iter().flat_map(|e| ["--engine", e]));
        let outcome = run(&mut command, LIMIT);
        let name = format!("verify: {}", working_engines.join(", "));
        // What gpusetup itself could not verify, such as pods where no kubelet has made a sandbox image.
        if outcome.code() == Some(7) {
            let why = Verdict::NotVerified(outcome.failure());
            self.row("gpusetup", &name, why, Some(outcome.took));
        } else {
            self.expect("gpusetup", &name, &outcome, &[0]);
        }
    }

    /// Tries all ways of an engine. False if not even a plain container starts.
    fn try_engine(&mut self, engine: Engine, tried: &mut Vec<TriedEngine>) -> bool {
        let group = engine.group;
        let outcome = probe(&engine.plain, &["nodes", "add-vectors"]);
        if !outcome.is_success() {
            let why = format!(
                "a plain container does not start here: {}",
                outcome.failure()
            );
            self.row(group, "all ways", Verdict::NotRun(why), None);
            return false;
        }
        let verdict = self.baseline.compute(engine.plain.request, &outcome);
        self.row(group, &engine.plain.name, verdict, Some(outcome.took));
        let mut working_ways = Vec::new();
        for way in &engine.ways {
            if let Some(why) = &way.unavailable {
                self.row(group, &way.name, Verdict::NotRun(why.clone()), None);
                continue;
            }
            let outcome = probe(way, &["nodes", "add-vectors"]);
            let verdict = self.baseline.compute(way.request, &outcome);
            if !matches!(verdict, Verdict::Failed(_)) {
                working_ways.push(way.name.clone());
            }
            self.row(group, &way.name, verdict, Some(outcome.took));
        }
        if let Some(all) = engine
            .ways
            .iter()
            .find(|w| w.request == GpuRequest::All && w.unavailable.is_none())
        {
            self.try_programs(group, all);
        }
        tried.push(TriedEngine {
            engine,
            working_ways,
        });
        true
    }

    /// Times starts once all else is shown: the engines share the time that is left.
    pub(crate) fn time_starts(&mut self, tried: &[TriedEngine]) {
        let rounds = usize::from(self.options.rounds);
        for (
            n,
            TriedEngine {
                engine,
                working_ways,
            },
        ) in tried.iter().enumerate()
        {
            let left = time_left().saturating_sub(RESERVE);
            let share = u32::try_from(tried.len() - n).map_or(left, |of| left / of);
            let room = share.min(MAX_TIMING);
            let times = times::measure(engine, |w| working_ways.contains(&w.name), rounds, room);
            self.results.times.extend(times);
        }
    }

    /// nvidia-smi and the graphics loaders in a container that has all GPUs.
    fn try_programs(&mut self, group: &str, all: &Way) {
        if find("nvidia-smi").is_some() {
            let outcome = start(all, &["nvidia-smi", "-L"]);
            let verdict = self.baseline.smi(&outcome);
            self.row(
                group,
                &format!("nvidia-smi, {}", all.name),
                verdict,
                Some(outcome.took),
            );
        } else {
            self.row(
                group,
                "nvidia-smi",
                Verdict::NotRun("this host has no nvidia-smi".into()),
                None,
            );
        }
        for (name, part) in [("Vulkan", "vulkan"), ("EGL", "egl")] {
            let on_host: Option<Graphics> = if part == "egl" {
                self.baseline.host.egl.clone()
            } else {
                self.baseline.host.vulkan.clone()
            };
            if let Err(why) = host_graphics(on_host.as_ref(), name) {
                self.row(group, &format!("{name}, {}", all.name), why, None);
                continue;
            }
            let outcome = probe(all, &[part]);
            let verdict = Baseline::graphics(on_host.as_ref(), name, &outcome);
            self.row(
                group,
                &format!("{name}, {}", all.name),
                verdict,
                Some(outcome.took),
            );
        }
    }

    /// The programs of nvidia-container-cli, which need no engine.
    pub(crate) fn try_cli(&mut self) {
        let group = "nvidia-container-cli";
        let (verdict, took) = cli::info(&self.baseline);
        self.row(group, "info", verdict, Some(took));
        let (verdict, took) = cli::list();
        self.row(group, "list", verdict, Some(took));
        let (verdict, took) = cli::configure(&self.baseline, &self.image, &self.probe);
        self.row(group, "configure, one GPU", verdict, Some(took));
    }
}

/// Runs the probe in a container of that way.
fn probe(way: &Way, parts: &[&str]) -> CommandOutcome {
    start(way, &[&[image::PROBE], parts].concat())
}

fn start(way: &Way, program: &[&str]) -> CommandOutcome {
    match way.command(program) {
        Ok(mut command) => run(&mut command, LIMIT),
        Err(why) => CommandOutcome::not_started(&way.name, &why),
    }
}
