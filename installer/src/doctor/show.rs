//! Findings and explanations as people read them, and as a document.

use serde_json::{Value, json};

use super::explain::Candidate;
use super::table::{self, Problem, Severity};
use super::{Examined, Finding, Here};
use crate::screen::{Mark, Screen};

/// As wide as a mark between two spaces.
fn indent(screen: Screen) -> usize {
    screen.mark_width() + 1
}

fn mark(severity: Severity) -> Mark {
    match severity {
        Severity::Broken => Mark::Bad,
        Severity::Warning => Mark::Warning,
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
pub fn findings(examined: &Examined, screen: Screen, quiet: bool) -> String {
    let indent = indent(screen);
    let space = " ".repeat(indent);
    let mut out = String::new();
    for Finding { problem, evidence } in &examined.findings {
        let first = format!(" {} ", screen.mark(mark(problem.severity)));
        out.push_str(&screen.paragraph(&first, indent, &format!("{}: {evidence}", problem.title)));
        if !quiet {
            let lead = format!("{space}fix: ");
            out.push_str(&screen.paragraph(&lead, indent + 5, &fix(problem)));
        }
    }
    let passed = examined.passed.len();
    let said = match examined.findings.len() {
        0 => format!("{passed} checks, no problem found"),
        _ => format!("{passed} other checks"),
    };
    out.push_str(&screen.paragraph(&format!(" {} ", screen.mark(Mark::Good)), indent, &said));
    if examined.findings.is_empty() {
        out.push_str(&screen.paragraph(&space, indent, &examined.summary));
    } else if !quiet {
        out.push('\n');
        out.push_str(&screen.paragraph("", 0, &next(examined)));
    }
    if let Some(trouble) = &examined.unread {
        let first = format!(" {} ", screen.mark(Mark::Warning));
        let text = format!("not everything could be looked at: {trouble}");
        out.push_str(&screen.paragraph(&first, indent, &text));
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
pub fn left(examined: &Examined, screen: Screen) -> String {
    if examined.findings.is_empty() {
        return findings(examined, screen, false);
    }
    let mut out = screen.paragraph("", 0, "Left to do:");
    out.push_str(&findings(examined, screen, false));
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
pub fn explained(candidates: &[(Candidate, Here)], others: &[Finding], screen: Screen) -> String {
    let mut out = String::new();
    for (n, (candidate, here)) in candidates.iter().enumerate() {
        let p = candidate.problem;
        let first = if candidates.len() == 1 {
            String::new()
        } else {
            format!("{}. ", n + 1)
        };
        let title = format!("{} ({})", p.title, p.id);
        out.push_str(&screen.paragraph(&first, first.len(), &capital(&title)));
        let mut line = |label: &str, text: &str| {
            out.push_str(&screen.paragraph(&format!("   {label:<7}"), 10, text));
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
        out.push_str(&screen.paragraph("", 0, "Found on this host:"));
        for f in others {
            let first = format!(" {} ", screen.mark(mark(f.problem.severity)));
            let text = format!("{}: {} ({})", f.problem.title, f.evidence, f.problem.id);
            out.push_str(&screen.paragraph(&first, indent(screen), &text));
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
pub fn unknown(screen: Screen) -> String {
    let count = table::problems().len();
    screen.paragraph(
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

    fn screen(width: usize, utf8: bool) -> Screen {
        Screen {
            terminal: false,
            redraws: false,
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
                let text = findings(&examined(), screen(width, utf8), false);
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
            findings(&examined(), screen(80, true), false),
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
            findings(&healthy, screen(80, false), false),
            " ok 70 checks, no problem found\n    driver 580.65.06, 2 GPUs; docker, podman\n"
        );
    }
}
