//! Compares two builds of ours on two hosts that differ only in the build. In each round the same container is run on
//! both. The result is the median of the differences within a round with its confidence bounds, since a machine's
//! speed drifts by more than what a change costs.

use std::fmt::Write;
use std::fs;

use crate::case::{Below, Gpus, Way};
use crate::images;
use crate::machine;
use crate::measure::Host;
use crate::options::PairedRun;
use crate::protocol::{Answer, Ask, Calls, HostOptions, Life};
use crate::table::aligned;

/// The directory below `bin/` that each of the two hosts has installed.
const BUILDS: [&str; 2] = ["before", "tree"];
/// How many lives are run under strace for a count of system calls; the smallest count is taken.
const TRACED: u32 = 5;

/// A case and its measurements before and after the change.
struct Compared {
    below: Below,
    gpus: Gpus,
    way: Way,
    rounds: Vec<[Life; 2]>,
    calls: [Calls; 2],
}

/// The median of the differences and its 95 % confidence bounds, by the order statistics of the binomial distribution
/// (without an assumption about how the differences are distributed).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bounds {
    low: f64,
    median: f64,
    high: f64,
}

impl Bounds {
    fn of(mut differences: Vec<f64>) -> Option<Self> {
        differences.sort_by(f64::total_cmp);
        let count = differences.len();
        let median = f64::midpoint(
            *differences.get(count.checked_sub(1)? / 2)?,
            differences[count / 2],
        );
        let below = ranks_below(count);
        Some(Self {
            low: *differences.get(below)?,
            median,
            high: *differences.get(count - 1 - below)?,
        })
    }
}

/// How many sorted values lie below the lower bound: the most for which the chance of a median below it is at most
/// 2.5 %.
fn ranks_below(count: usize) -> usize {
    let mut probability = 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let mut sum = probability;
    let mut rank = 0;
    while sum <= 0.025 {
        rank += 1;
        #[allow(clippy::cast_precision_loss, reason = "a number of rounds")]
        let factor = (count - rank + 1) as f64 / rank as f64;
        probability *= factor;
        sum += probability;
    }
    rank.saturating_sub(1)
}

pub(crate) fn measured(run: &PairedRun) -> Result<(), String> {
    if run.rounds < 6 {
        return Err("fewer than 6 rounds have no bounds of 95 %".into());
    }
    images::make(&run.work, run.image, &run.debian)?;
    let machine = machine::look();
    let mut all = Vec::new();
    for below in &run.below {
        for (at, gpus) in run.gpus.iter().enumerate() {
            all.extend(pair(run, *below, *gpus, at == 0)?);
        }
    }
    println!(
        "{}, Linux {}, {} CPUs ({}), {}, {}. {} rounds; load average {} at the begin, {} at the end.\n",
        machine.distribution,
        machine.kernel,
        machine.cpus,
        machine.cpu,
        machine.runc,
        machine.crun,
        run.rounds,
        machine.load[0],
        machine::load()
    );
    print!("{}", aligned(&rows(&all)));
    if let Some(path) = &run.raw {
        fs::write(path, raw(&all)).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

fn pair(
    run: &PairedRun,
    below: Below,
    gpus: Gpus,
    is_first: bool,
) -> Result<Vec<Compared>, String> {
    let mut ways = vec![Way::Shim, Way::Cdi, Way::Live];
    if is_first {
        ways.insert(0, Way::NoGpu);
    }
    let start = |tree: &str| {
        let options = HostOptions {
            gpus,
            below,
            work: run.work.clone(),
            tree: tree.into(),
            config: None,
            others: Vec::new(),
        };
        Host::start(&options, ways.clone())
    };
    let mut hosts = [start(BUILDS[0])?, start(BUILDS[1])?];
    let mut compared = Vec::new();
    for way in &ways {
        for host in &mut hosts {
            host.ask(&Ask::Prove(run.image, way.clone()))?;
        }
        compared.push(Compared {
            below,
            gpus,
            way: way.clone(),
            rounds: Vec::new(),
            calls: [Calls::default(); 2],
        });
    }
    for round in 0..run.rounds {
        eprint!(
            "\r\x1b[K{below}, {gpus} GPUs: round {} of {}",
            round + 1,
            run.rounds
        );
        for case in &mut compared {
            let mut lives = [Life::default(); 2];
            // Each build is first every other time, since the second one finds warmer caches.
            let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
            for build in order {
                match hosts[build].ask(&Ask::Life(run.image, case.way.clone()))? {
                    Answer::Life(life) => lives[build] = life,
                    other => return Err(format!("no life but {other:?}")),
                }
            }
            case.rounds.push(lives);
        }
    }
    eprintln!();
    for case in &mut compared {
        for (host, calls) in hosts.iter_mut().zip(&mut case.calls) {
            *calls = fewest_calls(host, run, &case.way)?;
        }
    }
    Ok(compared)
}

fn fewest_calls(host: &mut Host, run: &PairedRun, way: &Way) -> Result<Calls, String> {
    let mut fewest: Option<Calls> = None;
    for _ in 0..TRACED {
        match host.ask(&Ask::Calls(run.image, way.clone()))? {
            Answer::Calls(calls) if fewest.is_none_or(|f| calls.ours < f.ours) => {
                fewest = Some(calls);
            }
            Answer::Calls(_) => {}
            other => return Err(format!("no system calls but {other:?}")),
        }
    }
    fewest.ok_or_else(|| format!("no system calls of {way}"))
}

fn rows(all: &[Compared]) -> Vec<Vec<String>> {
    let head = [
        "below",
        "GPUs",
        "way",
        "before ms",
        "after ms",
        "difference",
        "95 % bounds",
        "CPU difference",
        "95 % bounds",
        "calls before",
        "calls after",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for case in all {
        let bounds = |of: fn(&Life) -> f64| {
            Bounds::of(
                case.rounds
                    .iter()
                    .map(|[before, after]| of(after) - of(before))
                    .collect(),
            )
        };
        let median =
            |build: usize| Bounds::of(case.rounds.iter().map(|r| r[build].whole).collect());
        let mut row = vec![
            case.below.to_string(),
            case.gpus.to_string(),
            case.way.to_string(),
        ];
        row.extend(
            [0, 1].map(|build| {
                median(build).map_or_else(String::new, |b| format!("{:.2}", b.median))
            }),
        );
        for found in [bounds(|l| l.whole), bounds(|l| l.cpu)] {
            row.push(found.map_or_else(String::new, |b| format!("{:+.2}", b.median)));
            row.push(
                found.map_or_else(String::new, |b| format!("{:+.2} to {:+.2}", b.low, b.high)),
            );
        }
        row.extend(case.calls.map(|c| c.ours.to_string()));
        rows.push(row);
    }
    rows
}

fn raw(all: &[Compared]) -> String {
    let mut text =
        "below\tGPUs\tway\tround\tbefore ms\tafter ms\tbefore CPU ms\tafter CPU ms\n".to_owned();
    for case in all {
        for (round, [before, after]) in case.rounds.iter().enumerate() {
            let _ = writeln!(
                text,
                "{}\t{}\t{}\t{}\t{:.2}\t{:.2}\t{:.2}\t{:.2}",
                case.below,
                case.gpus,
                case.way,
                round + 1,
                before.whole,
                after.whole,
                before.cpu,
                after.cpu
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_the_sign_test() {
        // By tables of the sign test: with 6 values the extremes, with 20 the 6th from either end.
        assert_eq!(ranks_below(6), 0);
        assert_eq!(ranks_below(20), 5);
        assert_eq!(ranks_below(301), 133);
    }

    #[test]
    fn bounds_hold_the_median() {
        let found = Bounds::of((1..=20).rev().map(f64::from).collect());
        let wanted = Bounds {
            low: 6.0,
            median: 10.5,
            high: 15.0,
        };
        assert_eq!(found, Some(wanted));
        assert_eq!(Bounds::of(Vec::new()), None);
    }
}
