//! The measurement: starts hosts, has them run the cases in turn, and ends them.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::case::{Below, Gpus, Image, Way, ways};
use crate::figures::{Case, Figures, Lives, Takes};
use crate::images;
use crate::machine;
use crate::options::Run;
use crate::protocol::{Answer, Ask, Calls, HostOptions};

/// The most runs of a part alone.
const PARTS: u32 = 31;
/// A part that takes long is run less often: milliseconds of all its runs.
const ENOUGH: f64 = 20_000.0;

pub(crate) struct Host {
    gpus: Gpus,
    below: Below,
    ways: Vec<Way>,
    process: Child,
    ask: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Host {
    pub(crate) fn start(options: &HostOptions, ways: Vec<Way>) -> Result<Self, String> {
        let text = serde_json::to_string(options).map_err(|e| e.to_string())?;
        let program = std::env::current_exe().map_err(|e| e.to_string())?;
        let mut process = Command::new(program)
            .args(["host", &text])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| e.to_string())?;
        let ask = process.stdin.take();
        let answers = process.stdout.take().ok_or("a host without output")?;
        let mut host = Self {
            gpus: options.gpus,
            below: options.below,
            ways,
            process,
            ask,
            answers: BufReader::new(answers),
        };
        host.answer()
            .map_err(|e| format!("a host of {} GPUs for {}: {e}", options.gpus, options.below))?;
        Ok(host)
    }

    fn answer(&mut self) -> Result<Answer, String> {
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .map_err(|e| e.to_string())?;
        match serde_json::from_str(&line) {
            Ok(Answer::Failed(why)) => Err(why),
            Ok(answer) => Ok(answer),
            Err(_) => Err(format!("it ended without an answer: {line:?}")),
        }
    }

    pub(crate) fn ask(&mut self, ask: &Ask) -> Result<Answer, String> {
        let line = serde_json::to_string(ask).map_err(|e| e.to_string())?;
        let pipe = self.ask.as_mut().ok_or("the host has ended")?;
        writeln!(pipe, "{line}").map_err(|e| e.to_string())?;
        self.answer()
            .map_err(|e| format!("{} GPUs on {}: {ask:?}: {e}", self.gpus, self.below))
    }

    fn case(&self, image: Image, way: &Way) -> Case {
        Case {
            image,
            below: self.below,
            gpus: self.gpus,
            way: way.clone(),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.ask = None;
        let _ = self.process.wait();
    }
}

pub(crate) fn all(run: &Run) -> Result<Figures, String> {
    for image in &run.image {
        images::make(&run.work, *image, &run.debian)?;
    }
    let mut figures = Figures {
        schema: 1,
        machine: machine::look(),
        rounds: run.rounds,
        ..Figures::default()
    };
    let mut hosts = hosts(run)?;
    prove(run, &mut hosts)?;
    lives(run, &mut hosts, &mut figures)?;
    if !run.no_counts {
        takes(run, &mut hosts, &mut figures)?;
        parts(run, &mut hosts, &mut figures)?;
        sizes(run, &mut hosts, &mut figures)?;
    }
    figures.machine.load[1] = machine::load();
    Ok(figures)
}

fn hosts(run: &Run) -> Result<Vec<Host>, String> {
    let others = run.others();
    let mut hosts = Vec::new();
    for below in &run.below {
        for (at, gpus) in run.gpus.iter().enumerate() {
            let options = HostOptions {
                gpus: *gpus,
                below: *below,
                work: run.work.clone(),
                tree: "tree".into(),
                config: run.config.clone(),
                others: others.clone(),
            };
            hosts.push(Host::start(&options, ways(at == 0, &others))?);
        }
    }
    Ok(hosts)
}

/// Runs each case once and checks its container: a fast container without its GPUs is not a figure.
fn prove(run: &Run, hosts: &mut [Host]) -> Result<(), String> {
    eprintln!("proving every case");
    for host in hosts {
        for image in &run.image {
            for way in host.ways.clone() {
                host.ask(&Ask::Prove(*image, way))?;
            }
        }
    }
    Ok(())
}

fn lives(run: &Run, hosts: &mut [Host], figures: &mut Figures) -> Result<(), String> {
    for image in &run.image {
        for host in hosts.iter() {
            figures.lives.extend(host.ways.iter().map(|way| Lives {
                case: host.case(*image, way),
                rounds: Vec::new(),
            }));
        }
    }
    for round in 0..run.rounds as usize {
        eprint!("\rround {} of {}", round + 1, run.rounds);
        let mut at = 0;
        for image in &run.image {
            for host in hosts.iter_mut() {
                // Another case is first in each round, so that none always has the best place.
                let count = host.ways.len();
                for n in 0..count {
                    let n = (n + round) % count;
                    let way = host.ways[n].clone();
                    if let Answer::Life(life) = host.ask(&Ask::Life(*image, way))? {
                        figures.lives[at + n].rounds.push(life);
                    }
                }
                at += count;
            }
        }
    }
    eprintln!();
    Ok(())
}

/// On the most usual image only, since the host makes the difference.
fn takes(run: &Run, hosts: &mut [Host], figures: &mut Figures) -> Result<(), String> {
    let usual = run.image.iter().find(|i| **i == Image::Debian);
    let Some(image) = usual.or(run.image.first()).copied() else {
        return Ok(());
    };
    let has_valgrind = Path::new("/usr/bin/valgrind").exists();
    for host in hosts {
        for way in host.ways.clone() {
            if !way.adds_programs() {
                continue;
            }
            eprint!(
                "\r\x1b[Kcounting: {}, {} GPUs, {way}",
                host.below, host.gpus
            );
            let calls = calls(host, image, &way)?;
            let floor = way.floor().unwrap_or(Way::Plain);
            let floor_calls = self::calls(host, image, &floor)?.all;
            let Answer::ShimAndHooks(peak) = host.ask(&Ask::Peak(image, way.clone()))? else {
                continue;
            };
            let mut instructions = None;
            if has_valgrind {
                match host.ask(&Ask::Instructions(image, way.clone())) {
                    Ok(Answer::ShimAndHooks(found)) => instructions = Some(found),
                    Ok(_) => {}
                    Err(e) => eprintln!("\nno instructions: {e}"),
                }
            }
            figures.takes.push(Takes {
                case: host.case(image, &way),
                calls,
                floor_calls,
                peak,
                instructions,
            });
        }
    }
    eprintln!();
    Ok(())
}

/// The median of three runs by the number of all calls: Go's scheduler makes more calls in some runs.
fn calls(host: &mut Host, image: Image, way: &Way) -> Result<Calls, String> {
    let mut calls = Vec::new();
    for _ in 0..3 {
        match host.ask(&Ask::Calls(image, way.clone()))? {
            Answer::Calls(of_run) => calls.push(of_run),
            _ => return Err(format!("no system calls of {way}")),
        }
    }
    calls.sort_by_key(|c| c.all);
    Ok(calls[1])
}

fn parts(run: &Run, hosts: &mut [Host], figures: &mut Figures) -> Result<(), String> {
    let mut asks = Vec::new();
    for (at, host) in hosts.iter().enumerate() {
        let gpus = host.gpus;
        if host.below != run.below[0] {
            continue;
        }
        for image in run.image.iter().filter(|_| gpus == run.gpus[0]) {
            asks.push((
                at,
                format!("hook alone, image {image}"),
                Ask::CacheByHook(*image),
            ));
            if *image != Image::Tiny {
                asks.push((
                    at,
                    format!("ldconfig, image {image}"),
                    Ask::CacheByLdconfig(*image),
                ));
            }
        }
        for (nvml, how) in [(true, "fake NVML"), (false, "no NVML")] {
            let name = format!("cdi generate, {how}, {gpus} GPUs");
            asks.push((at, name, Ask::Generate { nvml }));
        }
        for other in run.others().iter().filter(|o| o.generator.is_some()) {
            let name = &other.name;
            let ask = Ask::OtherGenerate(name.clone());
            asks.push((at, format!("{name} cdi generate, {gpus} GPUs"), ask));
        }
    }
    for _ in 0..run.rounds.min(PARTS) {
        for (at, name, ask) in &asks {
            let runs = figures.parts.entry(name.clone()).or_default();
            if runs.iter().sum::<f64>() > ENOUGH {
                continue;
            }
            if let Answer::Milliseconds(ms) = hosts[*at].ask(ask)? {
                runs.push(ms);
            }
        }
    }
    Ok(())
}

/// The sizes of the files, and the hook's memory where an image's cache is large.
fn sizes(run: &Run, hosts: &mut [Host], figures: &mut Figures) -> Result<(), String> {
    let path = run
        .work
        .join("bin/tree/usr/lib/gpu-container/gpu-container");
    let metadata = path
        .metadata()
        .map_err(|e| format!("{}: {e}", path.display()))?;
    figures
        .sizes
        .insert("size of gpu-container".into(), metadata.len());
    for image in &run.image {
        if let Answer::ShimAndHooks(peak) = hosts[0].ask(&Ask::Peak(*image, Way::Cdi))?
            && let Some(kb) = peak.hooks
        {
            let name = format!("peak memory of the hook, image {image}");
            figures.sizes.insert(name, kb * 1024);
        }
    }
    Ok(())
}
