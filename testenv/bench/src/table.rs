//! The figures as aligned text.

use crate::figures::{Compared, Figures};

/// Makes each column as wide as its cells need.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    let width = |n: usize| {
        rows.iter()
            .filter_map(|r| r.get(n))
            .map(|c| c.chars().count())
            .max()
    };
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (n, cell) in row.iter().enumerate() {
            line += &format!("{cell:<w$}  ", w = width(n).unwrap_or(0));
        }
        text += line.trim_end();
        text += "\n";
    }
    text
}

fn words(row: &[&str]) -> Vec<String> {
    row.iter().map(|c| (*c).to_owned()).collect()
}

/// A difference, with its sign.
pub(crate) fn signed(ms: f64) -> String {
    format!("{ms:+.1}")
}

pub(crate) fn lives(figures: &Figures) -> Vec<Vec<String>> {
    let head = [
        "image",
        "below",
        "GPUs",
        "way",
        "ms",
        "over",
        "added ms",
        "quartiles",
        "at create",
        "added CPU",
        "x plain",
    ];
    let mut rows = vec![words(&head)];
    rows.extend(figures.compared().iter().map(|c: &Compared| {
        let floor = c
            .case
            .way
            .floor()
            .map_or_else(String::new, |f| f.to_string());
        let added = c.added.unwrap_or_default();
        let added_cpu = c.added_cpu.unwrap_or_default();
        let at_create = c.added_at_create.unwrap_or_default();
        let mut row = vec![
            c.case.image.to_string(),
            c.case.below.to_string(),
            c.case.gpus.to_string(),
            c.case.way.to_string(),
            format!("{:.1}", c.whole.median),
            floor,
        ];
        if c.added.is_some() {
            row.extend([
                signed(added.median),
                format!("{} to {}", signed(added.low), signed(added.high)),
                signed(at_create.median),
                signed(added_cpu.median),
                format!("{:.2}", c.ratio),
            ]);
        }
        row
    }));
    rows
}

pub(crate) fn takes(figures: &Figures) -> Vec<Vec<String>> {
    let head = [
        "below",
        "GPUs",
        "way",
        "system calls, ours",
        "all",
        "all, over the floor",
        "execs",
        "processes",
        "hooks",
        "shim kB",
        "hook kB",
        "shim instr.",
        "hook instr.",
    ];
    let mut rows = vec![words(&head)];
    let number = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let millions = |n: Option<u64>| {
        #[allow(clippy::cast_precision_loss, reason = "shown with two digits")]
        n.map_or_else(|| "-".to_owned(), |n| format!("{:.2} M", n as f64 / 1e6))
    };
    rows.extend(figures.takes.iter().map(|t| {
        let instructions = t.instructions.unwrap_or_default();
        vec![
            t.case.below.to_string(),
            t.case.gpus.to_string(),
            t.case.way.to_string(),
            t.calls.ours.to_string(),
            t.calls.all.to_string(),
            format!("{:+}", t.calls_added()),
            t.calls.programs.to_string(),
            t.calls.processes.to_string(),
            t.peak.hook_count.to_string(),
            number(t.peak.shim),
            number(t.peak.hooks),
            millions(instructions.shim),
            millions(instructions.hooks),
        ]
    }));
    rows
}

pub(crate) fn parts(figures: &Figures) -> Vec<Vec<String>> {
    let mut rows = vec![words(&["part alone", "ms"])];
    let medians = figures
        .parts
        .keys()
        .filter_map(|k| Some((k, figures.part(k)?)));
    rows.extend(medians.map(|(name, ms)| vec![name.clone(), format!("{ms:.1}")]));
    let sizes = figures.sizes.iter();
    #[allow(clippy::cast_precision_loss, reason = "shown with two digits")]
    rows.extend(sizes.map(|(name, size)| {
        vec![
            name.clone(),
            format!("{:.2} MiB", *size as f64 / 1_048_576.0),
        ]
    }));
    rows
}

/// All tables.
pub(crate) fn text(figures: &Figures) -> String {
    let mut text = aligned(&lives(figures));
    if !figures.takes.is_empty() {
        text += "\n";
        text += &aligned(&takes(figures));
        text += "\n";
        text += &aligned(&parts(figures));
        text += "\n";
        text += &aligned(&crate::bars::rows(figures));
    }
    text
}
