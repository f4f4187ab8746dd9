//! Findings and explanations as people read them, and as a document.

use std::io::IsTerminal;

use serde_json::{Value, json};

use super::explain::Candidate;
use super::table::{self, Problem, Severity};
use super::{Examined, Finding, Here};

/// Narrower than this nothing can be read.
const NARROWEST: usize = 30;

/// How this output is written.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Marks in UTF-8.
    pub utf8: bool,
    /// Colour.
    pub colour: bool,
    /// Columns; `None`: lines are as long as they are.
    pub width: Option<usize>,
}

impl Style {
    /// Of standard output: wrapped and coloured on a terminal alone.
    pub fn of_output() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .find_map(set)
            .unwrap_or_default();
        let locale = locale.to_lowercase();
        let terminal = std::io::stdout().is_terminal();
        let dumb = set("TERM").is_none_or(|t| t == "dumb");
        let columns = set("COLUMNS").and_then(|c| c.parse().ok());
        let asked = || {
            rustix::termios::tcgetwinsize(std::io::stdout())
                .ok()
                .map(|w| w.ws_col.into())
        };
        Self {
            utf8: locale.contains("utf-8") || locale.contains("utf8"),
            colour: terminal && !dumb && std::env::var_os("NO_COLOR").is_none(),
            width: columns
                .or_else(|| asked().filter(|_| terminal))
                .filter(|w| *w > 0)
                .map(|w: usize| w.max(NARROWEST)),
        }
    }

    fn mark(self, severity: Severity) -> String {
        let (utf8, plain, colour) = match severity {
            Severity::Broken => ("✗", "xx", "31"),
            Severity::Warning => ("!", "!!", "33"),
        };
        self.coloured(if self.utf8 { utf8 } else { plain }, colour)
    }

    fn tick(self) -> String {
        self.coloured(if self.utf8 { "✓" } else { "ok" }, "32")
    }

    fn coloured(self, text: &str, colour: &str) -> String {
        if self.colour {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// What the terminal can show of a text of ours.
    fn text(self, text: &str) -> String {
        if self.utf8 {
            return text.to_owned();
        }
        let plain = text
            .replace('…', "...")
            .replace('×', "x")
            .replace(['“', '”'], "\"");
        plain
            .chars()
            .map(|c| if c.is_ascii() { c } else { '?' })
            .collect()
    }

    /// A paragraph: the first line begins with `first`, the others with as much space. `mark` is
    /// how wide `first` is on the screen.
    fn paragraph(self, first: &str, indent: usize, text: &str) -> String {
        let text = self.text(text);
        let room = self
            .width
            .map_or(usize::MAX, |w| w.saturating_sub(indent).max(10));
        let mut lines = vec![String::new()];
        for word in text.split(' ') {
            let line = lines.last_mut().map_or(0, |l| l.chars().count());
            if line > 0 && line + 1 + word.chars().count() > room {
                lines.push(String::new());
            } else if line > 0 {
                push(&mut lines, " ");
            }
            push(&mut lines, word);
        }
        let mut out = String::new();
        for (n, line) in lines.iter().enumerate() {
            if n == 0 {
                out.push_str(first);
            } else {
                out.push_str(&" ".repeat(indent));
            }
            out.push_str(line);
            out.push('\n');
        }
        out
    }

    fn indent(self) -> usize {
        if self.utf8 { 3 } else { 4 }
    }
}

fn push(lines: &mut [String], text: &str) {
    if let Some(last) = lines.last_mut() {
        last.push_str(text);
    }
}

/// The command where there is one, else the words; the words too where they say more.
fn fix(problem: &Problem) -> String {
    let safe = if problem.safe {
        format!("   (safe: --fix {})", problem.id)
    } else {
        String::new()
    };
    match &problem.command {
        Some(command) => format!("{command}{safe}"),
        None => format!("{}{safe}", problem.fix),
    }
}

/// The findings, the worst first; a healthy host in two lines.
pub fn findings(examined: &Examined, style: Style, quiet: bool) -> String {
    let indent = style.indent();
    let space = " ".repeat(indent);
    let mut out = String::new();
    for Finding { problem, evidence } in &examined.findings {
        let first = format!(" {} ", style.mark(problem.severity));
        out.push_str(&style.paragraph(&first, indent, &format!("{}: {evidence}", problem.title)));
        if !quiet {
            let lead = format!("{space}fix: ");
            out.push_str(&style.paragraph(&lead, indent + 5, &fix(problem)));
        }
    }
    let passed = examined.passed.len();
    let said = match examined.findings.len() {
        0 => format!("{passed} checks, no problem found"),
        _ => format!("{passed} other checks"),
    };
    out.push_str(&style.paragraph(&format!(" {} ", style.tick()), indent, &said));
    if examined.findings.is_empty() {
        out.push_str(&style.paragraph(&space, indent, &examined.summary));
    } else if !quiet {
        out.push('\n');
        out.push_str(&style.paragraph("", 0, &next(examined)));
    }
    if let Some(trouble) = &examined.unread {
        let first = format!(" {} ", style.mark(Severity::Warning));
        let text = format!("not everything could be looked at: {trouble}");
        out.push_str(&style.paragraph(&first, indent, &text));
    }
    out
}

fn next(examined: &Examined) -> String {
    let safe = examined.findings.iter().filter(|f| f.problem.safe).count();
    let why = "Why, and more: docs/troubleshooting.md, or gpusetup doctor --json.";
    match safe {
        0 => why.to_owned(),
        1 => format!("`gpusetup doctor --fix` mends the one that is safe. {why}"),
        n => format!("`gpusetup doctor --fix` mends the {n} that are safe. {why}"),
    }
}

/// What is not mended after `--fix`.
pub fn left(examined: &Examined, style: Style) -> String {
    if examined.findings.is_empty() {
        return findings(examined, style, false);
    }
    let mut out = style.paragraph("", 0, "Left to do:");
    out.push_str(&findings(examined, style, false));
    out
}

fn problem(p: &Problem) -> Value {
    json!({
        "id": p.id,
        "severity": p.severity,
        "title": p.title,
        "symptom": p.symptom,
        "looked_at": p.evidence,
        "cause": p.cause,
        "fix": p.fix,
        "command": p.command,
        "safe": p.safe,
        "source": p.source,
    })
}

fn with(mut value: Value, key: &str, more: Value) -> Value {
    if let Some(object) = value.as_object_mut() {
        object.insert(key.to_owned(), more);
    }
    value
}

/// The document of `doctor --json`.
pub fn document(examined: &Examined, changed: bool, fixed: &[String]) -> Value {
    let found = examined.findings.iter();
    let found: Vec<Value> = found
        .map(|f| with(problem(f.problem), "evidence", json!(f.evidence)))
        .collect();
    json!({
        "schema": 1,
        "changed": changed,
        "problems": found,
        "passed": examined.passed,
        "fixed": fixed,
        "unread": examined.unread,
        "host": examined.summary,
    })
}

/// An explanation, the likeliest first.
pub fn explained(candidates: &[(Candidate, Here)], others: &[Finding], style: Style) -> String {
    let mut out = String::new();
    for (n, (candidate, here)) in candidates.iter().enumerate() {
        let p = candidate.problem;
        let first = if candidates.len() == 1 {
            String::new()
        } else {
            format!("{}. ", n + 1)
        };
        let title = format!("{} ({})", p.title, p.id);
        out.push_str(&style.paragraph(&first, first.len(), &capital(&title)));
        let mut line = |label: &str, text: &str| {
            out.push_str(&style.paragraph(&format!("   {label:<7}"), 10, text));
        };
        line("cause", &p.cause);
        line("fix", &p.fix);
        if let Some(command) = &p.command {
            line("", command);
        }
        match here {
            Here::Confirmed(seen) => line("here", &format!("yes: {seen}")),
            Here::NotSeen => line("here", "the check for it finds nothing on this host now"),
            Here::NoCheck => {}
        }
        line("more", &p.source);
    }
    if !others.is_empty() {
        out.push('\n');
        out.push_str(&style.paragraph("", 0, "Found on this host:"));
        for f in others {
            let first = format!(" {} ", style.mark(f.problem.severity));
            let text = format!("{}: {} ({})", f.problem.title, f.evidence, f.problem.id);
            out.push_str(&style.paragraph(&first, style.indent(), &text));
        }
    }
    out
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

/// What to say of a text that nobody knows.
pub fn unknown(style: Style) -> String {
    let count = table::problems().len();
    style.paragraph(
        "",
        0,
        &format!(
            "Nothing in this text is one of the {count} problems that are known here. The line that says \
             what failed must be in it: look into the engine's log (journalctl -u docker, containerd, crio \
             or kubelet) and paste that. If it still says nothing, send the text, the command that gave it \
             and the output of `gpusetup doctor --json` to the project's issues; take passwords out first."
        ),
    )
}

/// The document of `doctor --explain --json`. The text itself is not in it.
pub fn explained_document(candidates: &[(Candidate, Here)], others: &[Finding]) -> Value {
    let all: Vec<Value> = candidates
        .iter()
        .map(|(candidate, here)| {
            let value = with(
                problem(candidate.problem),
                "matched",
                json!(candidate.matched),
            );
            let (here, seen) = match here {
                Here::Confirmed(seen) => ("confirmed", Some(seen)),
                Here::NotSeen => ("not-seen", None),
                Here::NoCheck => ("no-check", None),
            };
            with(with(value, "here", json!(here)), "evidence", json!(seen))
        })
        .collect();
    let others: Vec<Value> = others
        .iter()
        .map(|f| with(problem(f.problem), "evidence", json!(f.evidence)))
        .collect();
    json!({"schema": 1, "changed": false, "candidates": all, "others": others})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(width: usize, utf8: bool) -> Style {
        Style {
            utf8,
            colour: false,
            width: Some(width),
        }
    }

    fn examined() -> Examined {
        let finding = |id: &str, evidence: &str| Finding {
            problem: table::problem(id).unwrap(),
            evidence: evidence.into(),
        };
        Examined {
            findings: vec![
                finding(
                    "cdi-stale",
                    "spec is for driver 570.133, the loaded driver is 580.65.06",
                ),
                finding("docker-context", "a “quoted” × sign…"),
            ],
            passed: vec!["driver-missing"; 70],
            unread: None,
            summary: "driver 580.65.06, 2 GPUs; docker, podman".into(),
        }
    }

    #[test]
    fn lines_keep_to_the_terminal() {
        for width in [30, 60, 80, 200] {
            for utf8 in [true, false] {
                let text = findings(&examined(), style(width, utf8), false);
                for line in text.lines() {
                    let long = line.chars().count() > width;
                    // A word that is longer than a line stays whole, so that it can be copied.
                    assert!(!long || !line.trim().contains(' '), "{width}: {line}");
                    assert!(utf8 || line.is_ascii(), "{line}");
                }
            }
        }
    }

    #[test]
    fn the_screen_at_80_columns() {
        assert_eq!(
            findings(&examined(), style(80, true), false),
            " ✗ the CDI spec is stale: spec is for driver 570.133, the loaded driver is\n   \
             580.65.06\n   fix: gpusetup cdi refresh   (safe: --fix cdi-stale)\n \
             ! plain docker talks to another daemon: a “quoted” × sign…\n   \
             fix: docker context use default\n ✓ 70 other checks\n\n\
             `gpusetup doctor --fix` mends the one that is safe. Why, and more:\n\
             docs/troubleshooting.md, or gpusetup doctor --json.\n"
        );
    }

    #[test]
    fn a_healthy_host_in_two_lines() {
        let healthy = Examined {
            findings: Vec::new(),
            ..examined()
        };
        assert_eq!(
            findings(&healthy, style(80, false), false),
            " ok 70 checks, no problem found\n    driver 580.65.06, 2 GPUs; docker, podman\n"
        );
    }
}
