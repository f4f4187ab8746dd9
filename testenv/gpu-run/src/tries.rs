//! Every engine's ways in, one after the other: a plain container first, then each way, then the times.

use std::process::Command;
use std::time::Duration;

use gpu_run::seen::Graphics;

use crate::command::{Ended, find, run, time_left};
use crate::daemons::{self, Daemon};
use crate::judge::{Asks, Measure, can_graphics};
use crate::report::Verdict;
use crate::ways::{self, Engine, Place, Way};
use crate::work::{LIMIT, Work, done};
use crate::{cli, image, times};

/// What an engine's timing may take at most.
const FOR_TIMES: Duration = Duration::from_secs(18);
/// Kept of the run's time when the timing begins.
const RESERVE: Duration = Duration::from_secs(5);

/// An engine that starts containers, and its ways that did not fail.
pub(crate) struct Tried {
    engine: Engine,
    in_order: Vec<String>,
}

/// How an engine is begun: its name for --without, its group of rows, its program, its daemon if it has one, and what
/// loads an image into it.
struct Beginning<'a> {
    name: &'a str,
    group: &'a str,
    program: &'a str,
    daemon: Option<fn() -> Result<Daemon, String>>,
    load: &'a [&'a str],
}

impl Work<'_> {
    /// All engines; the daemons they need run on in `running`.
    pub(crate) fn all_ways(&mut self, running: &mut Vec<Daemon>) -> Vec<Tried> {
        let gpus = self.measure.gpus.clone();
        let (cgroup, image) = (self.options.cgroup.clone(), self.image.clone());
        let place = Place {
            cgroup: &cgroup,
            image: &image,
            gpus: &gpus,
        };
        let mut works = Vec::new();
        let mut tried = Vec::new();
        let containerd = Beginning {
            name: "containerd",
            group: "containerd (ctr)",
            program: "containerd",
            daemon: Some(daemons::containerd),
            load: &["ctr", "images", "import"],
        };
        if self.begins(&containerd, running) {
            let version = run(Command::new("containerd").arg("--version"), LIMIT).out;
            let engine = ways::containerd(&place, ways::version(&version));
            works.extend(self.engine(engine, &mut tried).then_some("containerd"));
        }
        let docker = Beginning {
            name: "docker",
            group: "docker",
            program: "dockerd",
            daemon: Some(daemons::dockerd),
            load: &["docker", "load", "-qi"],
        };
        if self.begins(&docker, running) {
            let mut command = Command::new("docker");
            command.args(["version", "--format", "{{.Server.Version}}"]);
            let engine = ways::docker(&place, ways::version(&run(&mut command, LIMIT).out));
            works.extend(self.engine(engine, &mut tried).then_some("docker"));
        }
        let podman = Beginning {
            name: "podman",
            group: "podman",
            program: "podman",
            daemon: None,
            load: &["podman", "load", "-qi"],
        };
        if self.begins(&podman, running) {
            let engine = ways::podman(&place);
            works.extend(self.engine(engine, &mut tried).then_some("podman"));
        }
        for low_level in ["runc", "crun"] {
            let engine = self
                .has(low_level, low_level)
                .and_then(|()| ways::shim(&place, low_level));
            match engine {
                Ok(engine) => drop(self.engine(engine, &mut tried)),
                Err(why) => {
                    let group = format!("shim on {low_level}");
                    self.row(&group, "all ways", Verdict::NotRun(why), None);
                }
            }
        }
        self.verify(&works);
        tried
    }

    /// Its daemon answers and has the image; otherwise a row says why not.
    fn begins(&mut self, engine: &Beginning, running: &mut Vec<Daemon>) -> bool {
        let begun = self
            .has(engine.name, engine.program)
            .and_then(|()| engine.daemon.map(|start| start()).transpose())
            .and_then(|daemon| {
                running.extend(daemon);
                let mut command = Command::new(engine.load[0]);
                command.args(&engine.load[1..]).arg(&self.archive);
                done(&run(&mut command, LIMIT), "loading the image")
            });
        if let Err(why) = &begun {
            self.row(engine.group, "all ways", Verdict::NotRun(why.clone()), None);
        }
        begun.is_ok()
    }

    /// gpusetup's own proof, on the engines that start containers here.
    fn verify(&mut self, works: &[&str]) {
        if works.is_empty() {
            let why = "no engine starts a plain container here";
            self.row("gpusetup", "verify", Verdict::NotRun(why.into()), None);
            return;
        }
        let mut command = Command::new("gpusetup");
        command.args(["verify", "--no-daemon-reload"]);
        command.args(works.iter().flat_map(|e| ["--engine", e]));
        let ended = run(&mut command, LIMIT);
        self.expect(
            "gpusetup",
            &format!("verify: {}", works.join(", ")),
            &ended,
            &[0],
        );
    }

    /// All ways of an engine; false where it does not even start a plain container.
    fn engine(&mut self, engine: Engine, tried: &mut Vec<Tried>) -> bool {
        let group = engine.group;
        let ended = probe(&engine.plain, &["nodes", "add-vectors"]);
        if !ended.is_success() {
            let why = format!("a plain container does not start here: {}", ended.failure());
            self.row(group, "all ways", Verdict::NotRun(why), None);
            return false;
        }
        let verdict = self.measure.compute(engine.plain.asks, &ended);
        self.row(group, &engine.plain.name, verdict, Some(ended.took));
        let mut in_order = Vec::new();
        for way in &engine.ways {
            if let Some(why) = &way.lacks {
                self.row(group, &way.name, Verdict::NotRun(why.clone()), None);
                continue;
            }
            let ended = probe(way, &["nodes", "add-vectors"]);
            let verdict = self.measure.compute(way.asks, &ended);
            if !matches!(verdict, Verdict::Failed(_)) {
                in_order.push(way.name.clone());
            }
            self.row(group, &way.name, verdict, Some(ended.took));
        }
        if let Some(all) = engine
            .ways
            .iter()
            .find(|w| w.asks == Asks::All && w.lacks.is_none())
        {
            self.programs(group, all);
        }
        tried.push(Tried { engine, in_order });
        true
    }

    /// Starts beside plain ones, when all else is shown: what time there is is shared by the engines.
    pub(crate) fn times(&mut self, tried: &[Tried]) {
        let rounds = usize::from(self.options.rounds);
        for (n, Tried { engine, in_order }) in tried.iter().enumerate() {
            let left = time_left().saturating_sub(RESERVE);
            let share = u32::try_from(tried.len() - n).map_or(left, |of| left / of);
            let room = share.min(FOR_TIMES);
            let found = times::measure(engine, |w| in_order.contains(&w.name), rounds, room);
            self.told.times.extend(found);
        }
    }

    /// The driver's own program, and graphics, in a container that has all GPUs.
    fn programs(&mut self, group: &str, all: &Way) {
        if find("nvidia-smi").is_some() {
            let ended = start(all, &["nvidia-smi", "-L"]);
            let verdict = self.measure.smi(&ended);
            self.row(
                group,
                &format!("nvidia-smi, {}", all.name),
                verdict,
                Some(ended.took),
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
            let of_host: Option<Graphics> = if part == "egl" {
                self.measure.host.egl.clone()
            } else {
                self.measure.host.vulkan.clone()
            };
            if let Err(why) = can_graphics(of_host.as_ref(), name) {
                self.row(group, &format!("{name}, {}", all.name), why, None);
                continue;
            }
            let ended = probe(all, &[part]);
            let verdict = Measure::graphics(of_host.as_ref(), name, &ended);
            self.row(
                group,
                &format!("{name}, {}", all.name),
                verdict,
                Some(ended.took),
            );
        }
    }

    /// What programs do that bring a container of their own.
    pub(crate) fn cli(&mut self) {
        let group = "nvidia-container-cli";
        let (verdict, took) = cli::info(&self.measure);
        self.row(group, "info", verdict, Some(took));
        let (verdict, took) = cli::list();
        self.row(group, "list", verdict, Some(took));
        let (verdict, took) = cli::configure(&self.measure, &self.image, &self.probe);
        self.row(group, "configure, one GPU", verdict, Some(took));
    }
}

/// The probe in a container of that way.
fn probe(way: &Way, parts: &[&str]) -> Ended {
    start(way, &[&[image::PROBE], parts].concat())
}

fn start(way: &Way, program: &[&str]) -> Ended {
    match way.command(program) {
        Ok(mut command) => run(&mut command, LIMIT),
        Err(why) => Ended::not_started(&way.name, &why),
    }
}
