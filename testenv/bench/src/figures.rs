//! What was measured, and its medians.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::case::{Below, Gpus, Image, Way};
use crate::protocol::{Calls, Life, ShimAndHooks};

/// A way on a host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Case {
    pub image: Image,
    pub below: Below,
    pub gpus: Gpus,
    pub way: Way,
}

/// The times of a case in all rounds, in milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Lives {
    pub case: Case,
    pub rounds: Vec<Life>,
}

/// What a case costs besides time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Takes {
    pub case: Case,
    pub calls: Calls,
    /// System calls of all programs in the life that it is compared with.
    pub floor_calls: u64,
    /// Peak memory in kB.
    pub peak: ShimAndHooks,
    /// None where valgrind is not installed.
    pub instructions: Option<ShimAndHooks>,
}

impl Takes {
    /// The system calls that the way adds to its floor; fewer than its own where the runtime has less to do.
    pub(crate) fn calls_added(&self) -> i64 {
        self.calls.all.cast_signed() - self.floor_calls.cast_signed()
    }
}

/// Where and how the figures were taken.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub date: String,
    pub kernel: String,
    pub distribution: String,
    pub cpu: String,
    pub cpus: usize,
    pub runc: String,
    pub crun: String,
    /// Load averages over a minute, at the beginning and at the end.
    pub load: [String; 2],
}

/// All figures, as `--json` writes them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub schema: u32,
    pub machine: Machine,
    pub rounds: u32,
    pub lives: Vec<Lives>,
    pub takes: Vec<Takes>,
    /// Parts measured alone, by name: milliseconds of each run.
    pub parts: BTreeMap<String, Vec<f64>>,
    /// Sizes in bytes, by file name.
    pub sizes: BTreeMap<String, u64>,
}

/// The median, and the quartiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let mean = |a: usize, b: usize| f64::midpoint(sorted[a], sorted[b]);
        Some(Self {
            low: mean(last / 4, last.div_ceil(4)),
            median: mean(last / 2, last.div_ceil(2)),
            high: mean(last - last.div_ceil(4), last - last / 4),
        })
    }
}

/// A case compared with its floor.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Compared {
    pub case: Case,
    /// Time of the whole life.
    pub whole: Spread,
    /// The median of the differences to its floor within each round.
    pub added: Option<Spread>,
    /// The same for create alone.
    pub added_at_create: Option<Spread>,
    /// The same in processor time, which is more reliable on a busy machine.
    pub added_cpu: Option<Spread>,
    /// The median of the ratios to the plain life of the same round.
    pub ratio: f64,
}

impl Figures {
    pub(crate) fn find(&self, case: &Case) -> Option<&Lives> {
        self.lives.iter().find(|l| l.case == *case)
    }

    pub(crate) fn compared(&self) -> Vec<Compared> {
        self.lives.iter().filter_map(|l| self.compare(l)).collect()
    }

    fn compare(&self, lives: &Lives) -> Option<Compared> {
        let beside = |way: Way| {
            self.find(&Case {
                way,
                ..lives.case.clone()
            })
        };
        let floor = lives.case.way.floor().and_then(beside);
        let plain = beside(Way::Plain)?;
        let added = |of: fn(&Life) -> f64| {
            let pairs = floor?.rounds.iter().zip(&lives.rounds);
            Spread::of(pairs.map(|(floor, life)| of(life) - of(floor)))
        };
        let ratios = plain.rounds.iter().zip(&lives.rounds);
        Some(Compared {
            case: lives.case.clone(),
            whole: Spread::of(lives.rounds.iter().map(|l| l.whole))?,
            added: added(|l| l.whole),
            added_at_create: added(|l| l.create),
            added_cpu: added(|l| l.cpu),
            ratio: Spread::of(ratios.map(|(plain, life)| life.whole / plain.whole))?.median,
        })
    }

    /// The median of a part.
    pub(crate) fn part(&self, name: &str) -> Option<f64> {
        Some(Spread::of(self.parts.get(name)?.iter().copied())?.median)
    }

    /// What is missing of a requested case, including figures that are not numbers.
    pub(crate) fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let mut want = |is_there: bool, what: String| {
            if !is_there {
                missing.push(what);
            }
        };
        for lives in &self.lives {
            let case = format!("{:?}", lives.case);
            let rounds = lives
                .rounds
                .iter()
                .filter(|l| l.whole > l.create && l.create > 0.0);
            want(
                rounds.count() == self.rounds as usize,
                format!("rounds of {case}"),
            );
            want(
                self.compare(lives).is_some_and(|c| c.ratio.is_finite()),
                format!("a comparison of {case}"),
            );
        }
        for takes in &self.takes {
            let case = format!("{:?}", takes.case);
            let is_counted = takes.calls.ours > 0 && takes.floor_calls > 0;
            want(is_counted, format!("system calls of {case}"));
            let peak = takes.peak;
            want(
                peak.shim.or(peak.hooks).is_some_and(|kb| kb > 0),
                format!("peak memory of {case}"),
            );
            if let Some(found) = takes.instructions {
                want(
                    found.shim.or(found.hooks).is_some_and(|n| n > 0),
                    format!("instructions of {case}"),
                );
            }
        }
        want(!self.lives.is_empty(), "any life".into());
        for (name, runs) in &self.parts {
            want(runs.iter().any(|t| *t > 0.0), format!("a time of {name}"));
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_differences_within_a_round() {
        let case = |way| Case {
            image: Image::Tiny,
            below: Below::Runc,
            gpus: Gpus { count: 1, mig: 0 },
            way,
        };
        let lives = |way, times: [f64; 3]| Lives {
            case: case(way),
            rounds: times
                .map(|whole| Life {
                    whole,
                    create: whole / 2.0,
                    cpu: whole,
                })
                .to_vec(),
        };
        // On a machine that gets slower, the medians differ by more than the times within a round.
        let figures = Figures {
            rounds: 3,
            lives: vec![
                lives(Way::Plain, [10.0, 100.0, 20.0]),
                lives(Way::NoGpu, [11.0, 102.0, 21.0]),
            ],
            ..Figures::default()
        };
        let compared = figures.compared();
        assert_eq!(compared[1].added.map(|s| s.median), Some(1.0));
        assert!((compared[1].ratio - 1.05).abs() < 1e-9);
        assert_eq!(compared[0].added, None);
        assert_eq!(figures.missing(), Vec::<String>::new());
        let mut short = figures.clone();
        short.lives[1].rounds.pop();
        assert_eq!(short.missing().len(), 1);
    }

    #[test]
    fn spreads_of_few_values_and_of_none_are_defined() {
        assert_eq!(Spread::of([]), None);
        let one = Spread::of([2.0]).unwrap_or_default();
        assert_eq!((one.low, one.median, one.high), (2.0, 2.0, 2.0));
        let five = Spread::of([5.0, 1.0, 4.0, 2.0, 3.0]).unwrap_or_default();
        assert_eq!((five.low, five.median, five.high), (2.0, 3.0, 4.0));
    }
}
