//! Writes the figures into performance.md, and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::figures::{Figures, Machine};
use crate::{bars, table};

const BEGIN: &str = "<!-- figures: written by testenv/bench/start --docs -->";
const END: &str = "<!-- end of figures -->";
const PLOT: &str = "![What each way to GPUs adds to a container's life](performance.svg)";

/// The page with new figures between its marks.
pub(crate) fn rewritten(page: &str, figures: &Figures) -> Result<String, String> {
    let parts = page.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) =
        parts.ok_or_else(|| format!("the page has no {BEGIN:?} with {END:?} after it"))?;
    Ok(format!("{before}{BEGIN}\n{}{END}{after}", block(figures)))
}

fn block(figures: &Figures) -> String {
    let mut text = format!(
        "\n{PLOT}\n\n{}\n",
        taken_on(&figures.machine, figures.rounds)
    );
    for (title, rows, numbers_from) in [
        ("Bars", bars::rows(figures), 6),
        ("Whole lives", table::lives(figures), 4),
        (
            "What shim and hooks take (a whole life)",
            table::takes(figures),
            3,
        ),
        ("Parts on their own", table::parts(figures), 1),
    ] {
        if rows.len() > 1 {
            let _ = write!(text, "\n## {title}\n\n{}", markdown(&rows, numbers_from));
        }
    }
    text + "\n"
}

fn taken_on(machine: &Machine, rounds: u32) -> String {
    let Machine {
        date,
        kernel,
        distribution,
        cpu,
        cpus,
        runc,
        crun,
        load,
    } = machine;
    let mut text = format!(
        "{date}, {distribution}, Linux {kernel}, {cpus} CPUs ({}), {runc}, {crun}. {rounds} rounds; load average \
         {} at the begin, {} at the end, of which the run itself makes about 1.",
        cpu.trim(),
        load[0],
        load[1]
    );
    let is_busy = |load: &str| load.parse::<f64>().is_ok_and(|l| l > 2.0);
    // An average over a minute, so the one at the beginning is about the time before the first round.
    if is_busy(&load[1]) {
        text += "\n\n**The machine did other work meanwhile**: times in milliseconds are too high and say little, \
                 the counts are right. Take them again on a quiet one.";
    } else if is_busy(&load[0]) {
        text += " Other work ended in the minute before.";
    }
    text
}

/// A Markdown table. The columns from `numbers_from` on are right-aligned.
fn markdown(rows: &[Vec<String>], numbers_from: usize) -> String {
    let mut text = String::new();
    let columns = rows.first().map_or(0, Vec::len);
    for (n, row) in rows.iter().enumerate() {
        let mut cells = row.clone();
        cells.resize(columns, String::new());
        let _ = writeln!(text, "| {} |", cells.join(" | "));
        if n == 0 {
            let rule = |n| if n < numbers_from { "---" } else { "---:" };
            let rules: Vec<&str> = (0..columns).map(rule).collect();
            let _ = writeln!(text, "|{}|", rules.join("|"));
        }
    }
    text
}

/// The figures, with the sentences before the tables.
pub(crate) fn json(figures: &Figures) -> Result<String, String> {
    let mut value = serde_json::to_value(figures).map_err(|e| e.to_string())?;
    value["compared"] = serde_json::to_value(figures.compared()).map_err(|e| e.to_string())?;
    let bars = bars::bars(figures).into_iter().map(|bar| {
        let is_met = bar.is_met();
        let found = bar.found.map(|f| json!({"value": f.value, "of": f.of}));
        json!({"what": bar.what, "limit": bar.limit, "unit": bar.unit, "found": found, "met": is_met})
    });
    value["bars"] = Value::Array(bars.collect());
    let text = serde_json::to_string_pretty(&value).map_err(|e| e.to_string())?;
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_rewritten() {
        let page = format!("# Title\n\n{BEGIN}\nold\n{END}\n\nBelow\n");
        let figures = Figures {
            rounds: 31,
            ..Figures::default()
        };
        let first = rewritten(&page, &figures).unwrap_or_default();
        assert!(first.starts_with("# Title\n") && first.ends_with("\n\nBelow\n"));
        assert!(first.contains("31 rounds") && !first.contains("old"));
        assert_eq!(
            rewritten(&first, &figures).as_deref(),
            Ok(first.as_str()),
            "twice is as once"
        );
        assert!(rewritten("no marks", &figures).is_err());
    }

    #[test]
    fn figures_survive_json() {
        let text = json(&Figures::default()).unwrap_or_default();
        assert!(serde_json::from_str::<Figures>(&text).is_ok());
    }
}
