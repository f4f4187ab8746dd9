//! The limits that the start path is held to, and whether these figures keep them.

use crate::case::{Below, Image, Way};
use crate::figures::{Case, Compared, Figures, Takes};

/// A limit: what was measured, in the worst of its cases.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) what: &'static str,
    pub(crate) limit: f64,
    pub(crate) unit: &'static str,
    /// None where these figures have no such case.
    pub(crate) found: Option<Found>,
    /// The figure of nvidia-container-toolkit 1.20.0, measured by the same method on the same kind of machine (2
    /// cores, Debian 12, runc 1.1.5).
    pub(crate) peer: &'static str,
}

#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) value: f64,
    /// The case with the worst figure.
    pub(crate) of: String,
}

impl Bar {
    pub(crate) fn is_met(&self) -> Option<bool> {
        Some(self.found.as_ref()?.value <= self.limit)
    }

    fn verdict(&self) -> String {
        match (&self.found, self.is_met()) {
            (Some(found), Some(false)) => {
                let over = found.value - self.limit;
                format!("missed by {}", self.number(over))
            }
            (Some(_), _) => "met".to_owned(),
            (None, _) => "not measured".to_owned(),
        }
    }

    fn number(&self, value: f64) -> String {
        match self.unit {
            "calls" | "processes" => format!("{value:.0}"),
            unit => format!("{value:.1} {unit}"),
        }
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "counts and bytes of a size that a float holds"
)]
fn float(n: u64) -> f64 {
    n as f64
}

pub(crate) fn bars(figures: &Figures) -> Vec<Bar> {
    let worst = Worst {
        figures,
        compared: figures.compared(),
    };
    let bar = |what, limit, unit, found, peer| Bar {
        what,
        limit,
        unit,
        found,
        peer,
    };
    vec![
        bar(
            "shim, no GPU",
            1.0,
            "ms",
            worst.life(&[Way::NoGpu], None),
            "+13 ms",
        ),
        bar(
            "shim, 1, 8 and 64 GPUs, on runc",
            3.0,
            "ms",
            worst.life(&[Way::Shim], Some(Below::Runc)),
            "+66 to +107 ms",
        ),
        bar(
            "shim, 1, 8 and 64 GPUs, on crun",
            3.0,
            "ms",
            worst.life(&[Way::Shim], Some(Below::Crun)),
            "+90 ms",
        ),
        bar(
            "CDI engine, hook",
            6.0,
            "ms",
            worst.life(&[Way::Cdi], None),
            "+47 to +90 ms",
        ),
        bar(
            "CDI engine, processes",
            1.0,
            "processes",
            worst.takes(&[Way::Cdi], &|t| Some(t.calls.processes)),
            "7 to 14 hooks",
        ),
        bar(
            "live path, `--gpus`",
            10.0,
            "ms",
            worst.life(&[Way::Live], None),
            "not measured",
        ),
        bar(
            "system calls over the floor, shim, 1, 8 and 64 GPUs",
            500.0,
            "calls",
            worst.added_calls(),
            "about 10,000",
        ),
        bar(
            "peak memory of shim and hooks",
            4.0,
            "MiB",
            worst.peak_memory(),
            "11 to 14 MiB",
        ),
        bar(
            "binary, one for all names",
            2.5,
            "MiB",
            worst.size("size of"),
            "34 MiB, five files",
        ),
        bar(
            "cache of an image with 20,000 libraries",
            10.0,
            "ms",
            worst.part("hook alone, image many"),
            "ldconfig",
        ),
        bar(
            "cdi generate, 64 GPUs, besides NVML",
            20.0,
            "ms",
            worst.part("cdi generate, no NVML, 64 GPUs"),
            "69 ms with NVML",
        ),
    ]
}

/// The worst case of each kind of figure.
struct Worst<'a> {
    figures: &'a Figures,
    compared: Vec<Compared>,
}

impl Worst<'_> {
    /// What a container's life takes longer.
    fn life(&self, ways: &[Way], below: Option<Below>) -> Option<Found> {
        let is_meant = |c: &&Compared| {
            ways.contains(&c.case.way)
                && below.is_none_or(|b| c.case.below == b)
                && is_barred(&c.case)
                // That image has a limit of its own.
                && c.case.image != Image::Many
        };
        let cases = self.compared.iter().filter(is_meant);
        worst(cases.filter_map(|c| {
            let case = &c.case;
            let of = match case.way {
                Way::NoGpu => format!("{}, {}", case.below, case.image),
                _ => format!("{} GPUs, {}, {}", case.gpus, case.below, case.image),
            };
            Some((c.added?.median, of))
        }))
    }

    fn takes(&self, ways: &[Way], of: &dyn Fn(&Takes) -> Option<u64>) -> Option<Found> {
        let is_meant = |t: &&Takes| ways.contains(&t.case.way) && is_barred(&t.case);
        let cases = self.figures.takes.iter().filter(is_meant);
        worst(cases.filter_map(|t| Some((float(of(t)?), name_of(t)))))
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "counts of a size that a float holds"
    )]
    fn added_calls(&self) -> Option<Found> {
        let is_meant = |t: &&Takes| t.case.way == Way::Shim && is_barred(&t.case);
        let cases = self.figures.takes.iter().filter(is_meant);
        worst(cases.map(|t| {
            let name = format!("{} GPUs, {}", t.case.gpus, t.case.below);
            (t.calls_added() as f64, name)
        }))
    }

    fn part(&self, prefix: &str) -> Option<Found> {
        let names = self.figures.parts.keys();
        let names = names.filter(|n| n.starts_with(prefix));
        worst(names.filter_map(|n| Some((self.figures.part(n)?, n.clone()))))
    }

    /// In MiB.
    fn size(&self, prefix: &str) -> Option<Found> {
        let sizes = self.figures.sizes.iter();
        let sizes = sizes.filter(|(name, _)| name.starts_with(prefix));
        worst(sizes.map(|(name, bytes)| (float(*bytes) / 1_048_576.0, name.clone())))
    }

    /// In MiB, of the shim and the hooks.
    fn peak_memory(&self) -> Option<Found> {
        let peaks = self.figures.takes.iter().map(|t| {
            let kib = t.peak.shim.max(t.peak.hooks).unwrap_or_default();
            (float(kib) / 1024.0, name_of(t))
        });
        let of_hook = self.size("peak memory").map(|f| (f.value, f.of));
        worst(peaks.chain(of_hook))
    }
}

fn name_of(takes: &Takes) -> String {
    let case = &takes.case;
    format!("{}, {} GPUs, {}", case.way, case.gpus, case.below)
}

/// The shim's limits are for whole GPUs. Each slice has a directory of its own that must be read to know that what is
/// stored is still valid; the tables have these cases too.
fn is_barred(case: &Case) -> bool {
    case.way != Way::Shim || case.gpus.mig == 0
}

/// The greatest value, and its case.
fn worst(values: impl Iterator<Item = (f64, String)>) -> Option<Found> {
    values
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(value, of)| Found { value, of })
}

/// A table: what, limit, measured, its case, verdict, the vendor's figure.
pub(crate) fn rows(figures: &Figures) -> Vec<Vec<String>> {
    let head = [
        "bar",
        "at most",
        "measured",
        "worst of",
        "verdict",
        "nvidia-container-toolkit 1.20.0",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(bars(figures).iter().map(|bar| {
        let found = bar.found.as_ref();
        vec![
            bar.what.to_owned(),
            bar.number(bar.limit),
            found.map_or_else(|| "-".to_owned(), |f| bar.number(f.value)),
            found.map_or_else(String::new, |f| f.of.clone()),
            bar.verdict(),
            bar.peer.to_owned(),
        ]
    }));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Gpus;
    use crate::figures::{Case, Lives};
    use crate::protocol::Life;

    fn lives(way: Way, whole: f64) -> Lives {
        Lives {
            case: Case {
                image: Image::Debian,
                below: Below::Runc,
                gpus: Gpus { count: 8, mig: 0 },
                way,
            },
            rounds: vec![Life {
                whole,
                create: 1.0,
                cpu: 1.0,
            }],
        }
    }

    #[test]
    fn a_bar_is_met_missed_or_not_measured() {
        let figures = Figures {
            rounds: 1,
            lives: vec![
                lives(Way::Plain, 40.0),
                lives(Way::Floor, 50.0),
                lives(Way::Shim, 54.5),
            ],
            ..Figures::default()
        };
        let verdict = |what: &str| {
            let row = rows(&figures).into_iter().find(|r| r[0] == what);
            row.map(|r| r[4].clone()).unwrap_or_default()
        };
        assert_eq!(
            verdict("shim, 1, 8 and 64 GPUs, on runc"),
            "missed by 1.5 ms"
        );
        assert_eq!(verdict("shim, 1, 8 and 64 GPUs, on crun"), "not measured");
        let mut fast = figures.clone();
        fast.lives[2].rounds[0].whole = 52.0;
        assert_eq!(bars(&fast)[1].is_met(), Some(true));
    }
}
