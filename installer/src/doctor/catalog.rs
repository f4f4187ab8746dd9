//! problems.toml, as values.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// The table's text; docs/troubleshooting.md is made of it too.
const TEXT: &str = include_str!("../../problems.toml");

/// How bad a problem is. The worse is the lesser, so that it comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Containers get no GPU, or no container starts.
    Broken,
    /// They may, or soon will.
    Warning,
}

/// A row of the table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// The word for `--fix` and for scripts.
    pub id: String,
    /// What is wrong, in a few words.
    pub title: String,
    /// How bad it is.
    pub severity: Severity,
    /// Whether a check looks for it on the host.
    pub checked: bool,
    /// Whether `--fix` may mend it.
    pub safe: bool,
    /// What the user sees.
    pub symptom: String,
    /// What the check looks at.
    pub evidence: String,
    /// Why it is so.
    pub cause: String,
    /// What to do, in words.
    pub fix: String,
    /// The same as it is typed.
    pub command: Option<String>,
    /// Who has seen it, or the document that says so.
    pub source: String,
    /// Fragments of what programs say, see [`super::explain`].
    pub errors: Vec<String>,
}

#[derive(Deserialize)]
struct Table {
    problem: Vec<Problem>,
}

static PROBLEMS: LazyLock<Vec<Problem>> = LazyLock::new(|| {
    let table: Table = toml::from_str(TEXT).expect("problems.toml is ours; a test reads it whole");
    table.problem
});

/// All of them, in the table's order.
pub fn problems() -> &'static [Problem] {
    &PROBLEMS
}

/// The one of that id.
pub fn problem(id: &str) -> Option<&'static Problem> {
    PROBLEMS.iter().find(|p| p.id == id)
}

/// The comment lines above the rows of a part: `driver`, `device nodes`.
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
            // A row that neither a check nor a message leads to is never seen.
            assert!(p.checked || !p.errors.is_empty(), "{p:?}");
            // --fix mends what a check has found.
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
    fn every_row_that_says_so_has_its_check() {
        let mut said: Vec<&str> = problems()
            .iter()
            .filter(|p| p.checked)
            .map(|p| p.id.as_str())
            .collect();
        let mut there: Vec<&str> = checks::all().map(|(id, _)| id).collect();
        said.sort_unstable();
        there.sort_unstable();
        assert_eq!(said, there);
    }
}
