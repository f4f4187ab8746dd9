//! The plot in the page: what each way adds to its floor, in milliseconds. Drawn without a library, with colours that
//! work on a light and a dark page.

use std::fmt::Write;

use crate::case::{Image, Way};
use crate::figures::{Compared, Figures};
use crate::table::signed;

const WIDTH: f64 = 820.0;
/// Where the bars begin: names are left of it, numbers right of the longest bar.
const LEFT: f64 = 290.0;
const RIGHT: f64 = 110.0;
const ROW: f64 = 20.0;
const GAP: f64 = 16.0;
const TOP: f64 = 84.0;

const STYLE: &str = "\
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-size: 16px; font-weight: 600 } .small { font-size: 12px; fill: #57606a }
  .group { font-weight: 600 } .value { font-variant-numeric: tabular-nums }
  .grid { stroke: #d0d7de } .zero { stroke: #57606a } .limit { stroke: #bc4c00; stroke-width: 2; stroke-dasharray: 4 3 }
  .ours { fill: #2f81f7 } .other { fill: #bf8700 } .noise { fill: #8c959f } .range { stroke: #24292f; stroke-width: 1.5 }
  .ground { fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9198a1 } .grid { stroke: #30363d } .zero { stroke: #9198a1 }
    .limit { stroke: #f0883e } .range { stroke: #e6edf3 } .ground { fill: #0d1117 }
  }
";

/// A bar with its name.
struct Row {
    name: String,
    class: &'static str,
    low: f64,
    median: f64,
    high: f64,
    /// The limit that the bar has to stay below.
    limit: Option<f64>,
}

struct Group {
    title: String,
    rows: Vec<Row>,
}

fn limit(way: &Way) -> Option<f64> {
    match way {
        Way::NoGpu => Some(1.0),
        Way::Shim => Some(3.0),
        Way::Cdi => Some(6.0),
        Way::Live => Some(10.0),
        _ => None,
    }
}

fn row(compared: &Compared) -> Option<Row> {
    let case = &compared.case;
    let added = compared.added?;
    let class = match case.way {
        Way::PlainAgain => "noise",
        Way::OtherNoGpu(_) | Way::Other(_) | Way::OtherCdi(_) | Way::OtherLive(_) => "other",
        Way::Floor | Way::CdiFloor | Way::EmptyHook => return None,
        _ => "ours",
    };
    let name = match (&case.way, case.gpus.mig) {
        (Way::PlainAgain, _) => "plain, twice (noise)".to_owned(),
        (way @ (Way::NoGpu | Way::OtherNoGpu(_)), _) => way.to_string(),
        (way, 0) => format!(
            "{way}, {} GPU{}",
            case.gpus,
            if case.gpus.count == 1 { "" } else { "s" }
        ),
        (way, mig) => format!("{way}, {} GPUs of {mig} slices", case.gpus.count),
    };
    let limit = limit(&case.way);
    Some(Row {
        name,
        class,
        low: added.low,
        median: added.median,
        high: added.high,
        limit,
    })
}

/// The bars of one image, Debian's or the first there is, by low-level runtime.
fn groups(figures: &Figures) -> (String, Vec<Group>) {
    let compared = figures.compared();
    let usual = compared
        .iter()
        .map(|c| c.case.image)
        .find(|i| *i == Image::Debian);
    let Some(image) = usual.or_else(|| compared.first().map(|c| c.case.image)) else {
        return (String::new(), Vec::new());
    };
    let mut groups: Vec<Group> = Vec::new();
    for case in compared.iter().filter(|c| c.case.image == image) {
        let title = format!("on {}", case.case.below);
        if groups.last().is_none_or(|g| g.title != title) {
            groups.push(Group {
                title,
                rows: Vec::new(),
            });
        }
        if let (Some(group), Some(row)) = (groups.last_mut(), row(case)) {
            group.rows.push(row);
        }
    }
    (image.to_string(), groups)
}

/// A round step that gives about six lines.
fn step(span: f64) -> f64 {
    let rough = (span / 6.0).max(0.5);
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|f| f * power >= rough);
    factor.unwrap_or(10.0) * power
}

pub(crate) fn svg(figures: &Figures) -> String {
    let (image, groups) = groups(figures);
    let rows = || groups.iter().flat_map(|g| &g.rows);
    let greatest = rows()
        .map(|r| r.high.max(r.limit.unwrap_or(0.0)))
        .fold(1.0, f64::max);
    let least = rows().map(|r| r.low).fold(0.0, f64::min);
    let step = step(greatest - least);
    let (from, to) = (
        (least / step).floor() * step,
        (greatest / step).ceil() * step,
    );
    let x = |ms: f64| LEFT + (ms - from) / (to - from) * (WIDTH - LEFT - RIGHT);
    #[allow(clippy::cast_precision_loss, reason = "a few rows")]
    let height = |rows: usize, groups: usize| rows as f64 * ROW + groups as f64 * (ROW + GAP);
    let bottom = TOP + height(rows().count(), groups.len());
    let mut out = String::new();
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {0}\" width=\"{WIDTH}\" height=\"{0}\" role=\"img\">\n\
         <title>What a container start takes more with GPUs</title>\n<style>\n{STYLE}</style>\n\
         <rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n\
         <text class=\"title\" x=\"16\" y=\"26\">What each way to GPUs adds to a container's life</text>\n\
         <text class=\"small\" x=\"16\" y=\"46\">Over the same edits in config.json without a hook; \
         without GPUs, over the plain runtime. Image: {image}.</text>\n\
         <text class=\"small\" x=\"16\" y=\"63\">Bar: median of {1} rounds; line: quartiles; dashed: what it is to stay below.</text>\n",
        bottom + 52.0,
        figures.rounds
    );
    let mut at = from;
    while at <= to + step / 2.0 {
        let class = if at.abs() < step / 2.0 {
            "zero"
        } else {
            "grid"
        };
        let _ = write!(
            out,
            "<line class=\"{class}\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{TOP}\" y2=\"{bottom:.1}\"/>\n\
             <text class=\"small value\" x=\"{0:.1}\" y=\"{1:.1}\" text-anchor=\"middle\">{at}</text>\n",
            x(at),
            bottom + 18.0
        );
        at += step;
    }
    let _ = writeln!(
        out,
        "<text class=\"small\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">milliseconds added to create, start, wait and delete</text>",
        f64::midpoint(LEFT, WIDTH - RIGHT),
        bottom + 40.0
    );
    let mut y = TOP;
    for group in &groups {
        y += ROW;
        let _ = writeln!(
            out,
            "<text class=\"group\" x=\"16\" y=\"{y:.1}\">{}</text>",
            escaped(&group.title)
        );
        for row in &group.rows {
            draw(&mut out, row, y + 5.0, &x);
            y += ROW;
        }
        y += GAP;
    }
    out + "</svg>\n"
}

fn draw(out: &mut String, row: &Row, y: f64, x: &dyn Fn(f64) -> f64) {
    let (zero, end) = (x(0.0), x(row.median));
    let middle = y + 7.0;
    let _ = write!(
        out,
        "<text x=\"{0:.1}\" y=\"{1:.1}\" text-anchor=\"end\">{2}</text>\n\
         <rect class=\"{3}\" x=\"{4:.1}\" y=\"{y:.1}\" width=\"{5:.1}\" height=\"14\" rx=\"2\"/>\n\
         <line class=\"range\" x1=\"{6:.1}\" x2=\"{7:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>\n",
        LEFT - 10.0,
        middle + 4.5,
        escaped(&row.name),
        row.class,
        zero.min(end),
        (end - zero).abs().max(1.0),
        x(row.low),
        x(row.high),
    );
    if let Some(limit) = row.limit {
        let _ = writeln!(
            out,
            "<line class=\"limit\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{1:.1}\" y2=\"{2:.1}\"/>",
            x(limit),
            y - 2.0,
            y + 16.0
        );
    }
    let right = x(row.high.max(row.limit.unwrap_or(0.0))).max(zero);
    let _ = writeln!(
        out,
        "<text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{} ms</text>",
        right + 8.0,
        middle + 4.5,
        signed(row.median)
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Below, Gpus};
    use crate::figures::{Case, Lives};
    use crate::protocol::Life;

    #[test]
    fn every_case_that_adds_something_has_a_bar_with_its_number() {
        let lives = |way, whole| Lives {
            case: Case {
                image: Image::Tiny,
                below: Below::Runc,
                gpus: Gpus { count: 8, mig: 0 },
                way,
            },
            rounds: vec![Life {
                whole,
                create: 1.0,
                cpu: 1.0,
            }],
        };
        let figures = Figures {
            rounds: 1,
            lives: vec![
                lives(Way::Plain, 40.0),
                lives(Way::Floor, 50.0),
                lives(Way::Shim, 54.5),
                lives(Way::Other("a<b".into()), 150.0),
            ],
            ..Figures::default()
        };
        let text = svg(&figures);
        assert_eq!(text.matches("height=\"14\"").count(), 2);
        assert!(
            text.contains("shim, 8 GPUs") && text.contains("+4.5 ms"),
            "{text}"
        );
        assert!(
            text.contains("a&lt;b shim") && text.contains("+100.0 ms"),
            "{text}"
        );
        assert!(svg(&Figures::default()).ends_with("</svg>\n"));
    }

    #[test]
    fn steps_are_round() {
        assert!((step(12.0) - 2.0).abs() < 1e-9);
        assert!((step(100.0) - 20.0).abs() < 1e-9);
        assert!((step(1.0) - 0.5).abs() < 1e-9);
    }
}
