//! What a start with GPUs costs compared with a plain start: both run in every round, one after the other, in
//! changing order.

use std::time::{Duration, Instant};

use crate::command::run;
use crate::image::PROBE;
use crate::report::{Times, ms};
use crate::ways::{Engine, Way};

const LIMIT: Duration = Duration::from_secs(20);

/// Times rounds of each timed way and of a plain container, until there are enough or the engine's share of the time
/// is over.
pub(crate) fn measure(
    engine: &Engine,
    works: impl Fn(&Way) -> bool,
    rounds: usize,
    room: Duration,
) -> Vec<Times> {
    let ways: Vec<&Way> = engine
        .ways
        .iter()
        .filter(|w| w.is_timed && w.unavailable.is_none() && works(w))
        .collect();
    if ways.is_empty() {
        return Vec::new();
    }
    let all: Vec<&Way> = std::iter::once(&engine.plain)
        .chain(ways.iter().copied())
        .collect();
    let mut taken: Vec<Vec<f64>> = Vec::new();
    let end = Instant::now() + room;
    for round in 0..rounds {
        if Instant::now() > end {
            break;
        }
        let mut times = vec![None; all.len()];
        for turn in 0..all.len() {
            let at = (round + turn) % all.len();
            times[at] = once(all[at]);
        }
        // A round in which one container did not start has nothing to compare.
        if let Some(times) = times.into_iter().collect() {
            taken.push(times);
        }
    }
    if taken.is_empty() {
        return Vec::new();
    }
    let column = |n: usize| taken.iter().map(move |t| t[n]);
    let plain = median(column(0).collect());
    (1..)
        .zip(&ways)
        .map(|(n, way)| {
            let own = median(column(n).collect());
            Times {
                group: engine.group.to_owned(),
                way: way.name.clone(),
                rounds: taken.len(),
                median_ms: own,
                plain_median_ms: plain,
                added_median_ms: median(taken.iter().map(|t| t[n] - t[0]).collect()),
                ratio: if plain > 0.0 {
                    (own / plain * 100.0).round() / 100.0
                } else {
                    0.0
                },
            }
        })
        .collect()
}

fn once(way: &Way) -> Option<f64> {
    let mut command = way.command(&[PROBE]).ok()?;
    let outcome = run(&mut command, LIMIT);
    outcome.is_success().then(|| ms(outcome.took))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(Vec::new()).abs() < 1e-9);
    }
}
