//! The catalog of known problems: reads problems.toml into values.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// The text of the table; docs/troubleshooting.md is generated from it too.
const TEXT: &str = include_str!("../../problems.toml");

/// How bad a problem is. The worse severity is the smaller value, so that it sorts first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Containers get no GPU, or no container starts.
    Broken,
    /// That may happen, or soon will.
    Warning,
}

/// A known problem: one row of the table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// The name by which `--fix` and scripts refer to it.
    pub id: String,
    /// What is wrong, in a few words.
    pub title: String,
    /// How bad it is.
    pub severity: Severity,
    /// Whether a check looks for it on the host.
    pub checked: bool,
    /// Whether `--fix` may repair it.
    pub safe: bool,
    /// What the user sees.
    pub symptom: String,
    /// What the check looks at.
    pub evidence: String,
    /// Why the problem occurs.
    pub cause: String,
    /// What to do, in words.
    pub fix: String,
    /// The fix as a command to type, if it is one command.
    pub command: Option<String>,
    /// A report of the problem, or the document that describes it.
    pub source: String,
    /// Fragments of the error messages that programs print for it, see [`super::explain`].
    pub errors: Vec<String>,
}

#[derive(Deserialize)]
struct ProblemTable {
    problem: Vec<Problem>,
}

static PROBLEMS: LazyLock<Vec<Problem>> = LazyLock::new(|| {
    let table: ProblemTable =
        toml::from_str(TEXT).expect("problems.toml is ours; a test reads it whole");
    table.problem
});

/// All known problems, in the table's order.
pub fn problems() -> &'static [Problem] {
    &PROBLEMS
}

/// The problem with that id.
pub fn problem(id: &str) -> Option<&'static Problem> {
    PROBLEMS.iter().find(|p| p.id == id)
}

/// The table's parts with their rows. A part's title is the `# ----` comment line above it:
/// `driver`, `device nodes`.
#[cfg(test)]
pub fn parts() -> Vec<(String, Vec<&'static Problem>)> {
    let mut parts: Vec<(String, Vec<&Problem>)> = Vec::new();
    for line in TEXT.lines() {
        if let Some(title) = line.strip_prefix("# ---- ") {
            parts.push((title.trim_end_matches('-').trim().to_owned(), Vec::new()));
        }
        let id = line
            .strip_prefix("id = \"")
            .and_then(|l| l.strip_suffix('"'));
        if let (Some(problem), Some((_, rows))) = (id.and_then(problem), parts.last_mut()) {
            rows.push(problem);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::super::checks;
    use super::*;

    #[test]
    fn the_table_is_sound() {
        let mut ids: Vec<&str> = problems().iter().map(|p| p.id.as_str()).collect();
        for p in problems() {
            let texts = [
                &p.title,
                &p.symptom,
                &p.evidence,
                &p.cause,
                &p.fix,
                &p.source,
            ];
            assert!(texts.iter().all(|t| !t.is_empty()), "{p:?}");
            assert!(p.title.len() <= 64, "too long for a line: {}", p.title);
            // A row that neither a check nor a message leads to would never be shown.
            assert!(p.checked || !p.errors.is_empty(), "{p:?}");
            // --fix repairs only what a check has found.
            assert!(p.checked || !p.safe, "{p:?}");
            assert_eq!(
                p.evidence.starts_with("Only the message"),
                !p.checked,
                "{p:?}"
            );
            assert!(
                p.source.starts_with("https://") || p.source.starts_with("docs/"),
                "{p:?}"
            );
        }
        let listed: usize = parts().iter().map(|(_, rows)| rows.len()).sum();
        assert_eq!(listed, ids.len(), "a row outside the parts");
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), problems().len(), "an id twice");
        assert!(problems().iter().filter(|p| p.checked).count() >= 45);
    }

    #[test]
    fn every_row_marked_as_checked_has_a_check() {
        let mut marked: Vec<&str> = problems()
            .iter()
            .filter(|p| p.checked)
            .map(|p| p.id.as_str())
            .collect();
        let mut there: Vec<&str> = checks::all().map(|(id, _)| id).collect();
        marked.sort_unstable();
        there.sort_unstable();
        assert_eq!(marked, there);
    }
}
