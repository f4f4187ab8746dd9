//! Renders doctor's findings and explanations as text for people and as JSON documents.

use serde_json::{Value, json};

use super::explain::Candidate;
use super::{Examined, Finding, Here};
use crate::doctor::catalog::{self, Problem, Severity};
use crate::doctor::engine_state::{EngineState, SetUp};
use crate::doctor::remedy::Remedy;
use crate::error::invocation::Invocation;
use crate::render::status::not_whole;
use crate::terminal::screen::{Mark, Screen};

/// Width of the column that holds the mark.
fn indent(screen: Screen) -> usize {
    screen.mark_width() + 1
}

fn mark(severity: Severity) -> Mark {
    match severity {
        Severity::Broken => Mark::Bad,
        Severity::Warning => Mark::Warning,
    }
}

/// The fix as the command to type if there is one, otherwise in words.
fn fix(problem: &Problem, remedy: &Remedy) -> String {
    match &remedy.command {
        _ if remedy.is_safe => format!("sudo gpusetup doctor --fix {}   (safe)", problem.id),
        Some(command) => with_sudo(command),
        None => remedy.words.clone(),
    }
}

/// A command with sudo before each part that starts gpusetup: every one that is a fix changes the host, or asks what
/// only root may ask.
pub fn with_sudo(command: &str) -> String {
    let parts = command.split(" && ").map(|part| match part {
        part if part.starts_with("gpusetup ") => format!("sudo {part}"),
        part => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join(" && ")
}

/// The state of each engine, one on each line.
fn engines(examined: &Examined, screen: Screen) -> String {
    let name = |state: &EngineState| {
        let version = state.version.as_deref().unwrap_or_default();
        format!("{} {version}", state.name).trim_end().to_owned()
    };
    let widths = examined
        .engines
        .iter()
        .map(|state| name(state).chars().count());
    let column = widths.max().unwrap_or_default();
    let mut out = String::new();
    for state in &examined.engines {
        let mark = match &state.set_up {
            SetUp::Whole if examined.has_driver && state.not_in_effect.is_none() => {
                screen.mark(Mark::Good)
            }
            SetUp::Not if state.is_missed => screen.mark(Mark::Bad),
            SetUp::Whole | SetUp::Not | SetUp::Partly | SetUp::NotKnown(_) => {
                screen.mark(Mark::Warning)
            }
            SetUp::LeftAlone(_) => " ".repeat(screen.mark_width() - 1),
        };
        let first = format!(" {mark} {:<column$}  ", name(state));
        let indent = indent(screen) + column + 2;
        let words = state.words(examined.has_driver);
        if screen.room(indent) < 40 {
            // Little room is left beside the name, so the state goes below it.
            out.push_str(&screen.paragraph(first.trim_end(), 0, ""));
            let space = " ".repeat(self::indent(screen) + 2);
            out.push_str(&screen.paragraph(&space, space.len(), &words));
        } else {
            out.push_str(&screen.paragraph(&first, indent, &words));
        }
    }
    if examined.engines.is_empty() {
        let first = format!(" {} ", screen.mark(Mark::Warning));
        out.push_str(&screen.paragraph(&first, indent(screen), "no container engine is here"));
    }
    out.push('\n');
    out
}

/// How much is shown of each finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// What is wrong.
    Title,
    /// Also what to do.
    Fix,
    /// Also the cause and the source.
    Cause,
}

/// The findings, the worst first; a healthy host in two lines.
pub fn findings(examined: &Examined, screen: Screen, detail: Detail) -> String {
    let indent = indent(screen);
    let space = " ".repeat(indent);
    let mut out = engines(examined, screen);
    for Finding {
        problem,
        evidence,
        remedy,
    } in &examined.findings
    {
        let first = format!(" {} ", screen.mark(mark(problem.severity)));
        out.push_str(&screen.paragraph(&first, indent, &format!("{}: {evidence}", problem.title)));
        // The width of the longest label and a space.
        let width = if detail == Detail::Cause { 6 } else { 5 };
        let mut line = |label: &str, text: &str| {
            if !text.is_empty() {
                let first = format!("{space}{label:<width$}");
                out.push_str(&screen.paragraph(&first, indent + width, text));
            }
        };
        if detail == Detail::Cause {
            line("why:", &problem.cause);
            line("fix:", &remedy.words);
            line(
                "",
                &remedy.command.as_deref().map(with_sudo).unwrap_or_default(),
            );
            line("more:", &problem.source);
        } else if detail == Detail::Fix {
            line("fix:", &fix(problem, remedy));
        }
    }
    let passed = examined.passed.len();
    let summary = match examined.findings.len() {
        0 => format!("{passed} checks, no problem found"),
        _ => format!("{passed} other checks"),
    };
    out.push_str(&screen.paragraph(&format!(" {} ", screen.mark(Mark::Good)), indent, &summary));
    if examined.findings.is_empty() {
        out.push_str(&screen.paragraph(&space, indent, &examined.summary));
    } else if detail != Detail::Title {
        out.push('\n');
        out.push_str(&next(examined, screen, detail));
    }
    if let Some(text) = not_looked(examined, detail) {
        let first = format!(" {} ", screen.mark(Mark::Warning));
        out.push_str(&screen.paragraph(&first, indent, &text));
    }
    if examined.is_without_root {
        out.push_str(&screen.paragraph("", 0, &not_whole(Invocation::DoctorAsRoot)));
    }
    out
}

/// What could not be read, and the checks that therefore have no result.
fn not_looked(examined: &Examined, detail: Detail) -> Option<String> {
    let checks = &examined.not_looked;
    let first = checks.first().map(|check| &check.why);
    let mut text = match examined.unread.as_ref().or(first) {
        _ if examined.is_without_root && checks.is_empty() => return None,
        _ if examined.is_without_root => "not everything could be looked at".to_owned(),
        trouble => format!("not everything could be looked at: {}", trouble?),
    };
    let ids: Vec<&str> = checks.iter().map(|check| check.id).collect();
    match ids.len() {
        0 => {}
        1 => text.push_str(&format!(" (the check {} could not look)", ids[0])),
        count if count > 4 && detail != Detail::Cause => {
            text.push_str(&format!(" ({count} checks could not look; -v names them)"));
        }
        count => text.push_str(&format!(
            " ({count} checks could not look: {})",
            ids.join(", ")
        )),
    }
    Some(text)
}

/// The commands to run next, one on each line.
fn next(examined: &Examined, screen: Screen, detail: Detail) -> String {
    let safe = examined
        .findings
        .iter()
        .filter(|f| f.remedy.is_safe)
        .count();
    let mut lines = Vec::new();
    match safe {
        0 => {}
        1 => lines.push(("sudo gpusetup doctor --fix", "mends the one that is safe")),
        _ => lines.push(("sudo gpusetup doctor --fix", "mends what is safe")),
    }
    if detail != Detail::Cause {
        lines.push(("sudo gpusetup doctor -v", "why, and more"));
    }
    let lines = lines.iter();
    lines
        .map(|(command, what)| screen.paragraph("", 0, &format!("{command:<28}{what}")))
        .collect()
}

/// The problems that remain after `--fix`.
pub fn remaining(examined: &Examined, screen: Screen) -> String {
    if examined.findings.is_empty() {
        return findings(examined, screen, Detail::Fix);
    }
    let mut out = screen.paragraph("", 0, "Left to do:");
    out.push_str(&findings(examined, screen, Detail::Fix));
    out
}

fn problem(p: &Problem, remedy: &Remedy) -> Value {
    json!({
        "id": p.id,
        "severity": p.severity,
        "title": p.title,
        "symptom": p.symptom,
        "looked_at": p.evidence,
        "cause": p.cause,
        "fix": remedy.words,
        "command": remedy.command,
        "safe": remedy.is_safe,
        "source": p.source,
    })
}

fn with(mut value: Value, key: &str, more: Value) -> Value {
    if let Some(object) = value.as_object_mut() {
        object.insert(key.to_owned(), more);
    }
    value
}

fn finding(f: &Finding) -> Value {
    with(problem(f.problem, &f.remedy), "evidence", json!(f.evidence))
}

/// The document of `doctor --json`.
pub fn document(examined: &Examined, changed: bool, fixed: &[String]) -> Value {
    let findings = examined.findings.iter();
    let findings: Vec<Value> = findings.map(finding).collect();
    let not_looked = examined.not_looked.iter();
    let not_looked: Vec<Value> = not_looked
        .map(|check| json!({"id": check.id, "why": check.why}))
        .collect();
    json!({
        "schema": 1,
        "changed": changed,
        "problems": findings,
        "passed": examined.passed,
        "fixed": fixed,
        "not_looked": not_looked,
        "unread": examined.unread,
        "host": examined.summary,
        "engines": examined.engines.iter().map(EngineState::document).collect::<Vec<_>>(),
        "driver_loaded": examined.has_driver,
        "implied": examined.implied,
    })
}

/// The explanations of a message, the likeliest first.
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
        let remedy = remedy_of(p, here);
        line("fix", &remedy.words);
        if let Some(command) = &remedy.command {
            line("", &with_sudo(command));
        }
        match here {
            Here::Confirmed { evidence, .. } => line("here", &format!("yes: {evidence}")),
            Here::CouldNotLook(why) => line("here", why),
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

/// What to do on this host or, if it has not the problem, in general.
fn remedy_of(problem: &Problem, here: &Here) -> Remedy {
    match here {
        Here::Confirmed { remedy, .. } => remedy.clone(),
        _ => Remedy::of_table(problem),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

/// The answer to a text that matches no known problem.
pub fn unknown(screen: Screen) -> String {
    let count = catalog::problems().len();
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

/// The document of `doctor --explain --json`. It does not contain the text itself.
pub fn explained_document(candidates: &[(Candidate, Here)], others: &[Finding]) -> Value {
    let all: Vec<Value> = candidates
        .iter()
        .map(|(candidate, here)| {
            let value = with(
                problem(candidate.problem, &remedy_of(candidate.problem, here)),
                "matched",
                json!(candidate.matched),
            );
            let (here, evidence) = match here {
                Here::Confirmed { evidence, .. } => ("confirmed", Some(evidence)),
                Here::CouldNotLook(why) => ("could-not-look", Some(why)),
                Here::NotSeen => ("not-seen", None),
                Here::NoCheck => ("no-check", None),
            };
            with(
                with(value, "here", json!(here)),
                "evidence",
                json!(evidence),
            )
        })
        .collect();
    let others: Vec<Value> = others.iter().map(finding).collect();
    json!({"schema": 1, "changed": false, "candidates": all, "others": others})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::NotLooked;
    use crate::doctor::engine_state::GpuWay;

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
            problem: catalog::problem(id).unwrap(),
            evidence: evidence.into(),
            remedy: Remedy::of_table(catalog::problem(id).unwrap()),
        };
        let way = |how: &str, lacks: Option<&str>| GpuWay {
            how: how.into(),
            is_cdi: false,
            lacks: lacks.map(str::to_owned),
            only: None,
        };
        let state = |name: &str, set_up, ways| EngineState {
            name: name.into(),
            version: Some("28.5.2".into()),
            set_up,
            ways,
            not_in_effect: None,
            is_missed: true,
        };
        let lacks = Some("no nvidia-container-runtime-hook in /usr/sbin:/usr/bin");
        Examined {
            engines: vec![
                state(
                    "docker",
                    SetUp::Partly,
                    vec![way("--runtime nvidia", None), way("--gpus", lacks)],
                ),
                state(
                    "podman",
                    SetUp::Whole,
                    vec![way("--device nvidia.com/gpu=all", None)],
                ),
            ],
            has_driver: true,
            is_without_root: false,
            implied: Vec::new(),
            findings: vec![
                finding(
                    "cdi-stale",
                    "spec is for driver 570.133, the loaded driver is 580.65.06",
                ),
                finding("docker-context", "a “quoted” × sign…"),
            ],
            passed: vec!["driver-missing"; 70],
            not_looked: Vec::new(),
            unread: None,
            summary: "driver 580.65.06, 2 GPUs; docker, podman".into(),
        }
    }

    #[test]
    fn lines_keep_to_the_terminal() {
        for width in [30, 60, 80, 200] {
            for (utf8, detail) in [
                (true, Detail::Fix),
                (false, Detail::Fix),
                (true, Detail::Cause),
            ] {
                let text = findings(&examined(), screen(width, utf8), detail);
                for line in text.lines() {
                    let long = line.chars().count() > width;
                    // A word longer than a line is not broken, so that it can be copied.
                    let text = line.trim().trim_start_matches("more: ").trim();
                    assert!(!long || !text.contains(' '), "{width}: {line}");
                    assert!(utf8 || line.is_ascii(), "{line}");
                }
            }
        }
    }

    #[test]
    fn the_report_fits_80_columns() {
        assert_eq!(
            findings(&examined(), screen(80, true), Detail::Fix),
            " ! docker 28.5.2  partly set up: --runtime nvidia; not --gpus (no\n                  \
             nvidia-container-runtime-hook in /usr/sbin:/usr/bin)\n \
             ✓ podman 28.5.2  set up: --device nvidia.com/gpu=all\n\n \
             ✗ the CDI spec is stale: spec is for driver 570.133, the loaded driver is\n   \
             580.65.06\n   fix: sudo gpusetup doctor --fix cdi-stale   (safe)\n \
             ! plain docker talks to another daemon: a “quoted” × sign…\n   \
             fix: docker context use default\n ✓ 70 other checks\n\n\
             sudo gpusetup doctor --fix  mends the one that is safe\n\
             sudo gpusetup doctor -v     why, and more\n"
        );
    }

    #[test]
    fn the_reason_and_the_details_are_shown() {
        let text = findings(&examined(), screen(80, true), Detail::Cause);
        for finding in examined().findings {
            let p = finding.problem;
            for column in [&p.cause, &p.fix, &p.source] {
                let words = |t: &str| t.split_whitespace().collect::<Vec<_>>().join(" ");
                assert!(
                    words(&text).contains(&words(column)),
                    "{column} is not in {text}"
                );
            }
        }
    }

    #[test]
    fn checks_that_could_not_run_are_reported() {
        let with = |count: usize, detail: Detail| {
            let check = NotLooked {
                id: "cdi-stale",
                why: "/etc/cdi: Input/output error (os error 5)".into(),
            };
            let examined = Examined {
                findings: Vec::new(),
                not_looked: vec![check; count],
                ..examined()
            };
            let text = findings(&examined, screen(200, false), detail);
            text.lines().skip(5).map(str::to_owned).collect::<Vec<_>>()
        };
        let line =
            " !! not everything could be looked at: /etc/cdi: Input/output error (os error 5)";
        assert!(with(0, Detail::Fix).is_empty());
        assert_eq!(
            with(1, Detail::Fix),
            [format!("{line} (the check cdi-stale could not look)")]
        );
        let [text] = &with(2, Detail::Fix)[..] else {
            panic!("not one line");
        };
        assert!(
            text.ends_with("(2 checks could not look: cdi-stale, cdi-stale)"),
            "{text}"
        );
        let [text] = &with(5, Detail::Fix)[..] else {
            panic!("not one line");
        };
        assert!(
            text.ends_with("(5 checks could not look; -v names them)"),
            "{text}"
        );
        assert!(
            with(5, Detail::Cause)
                .concat()
                .contains("cdi-stale, cdi-stale")
        );
    }

    #[test]
    fn a_healthy_host_is_reported_in_two_lines_below_its_engines() {
        let healthy = Examined {
            engines: Vec::new(),
            findings: Vec::new(),
            ..examined()
        };
        assert_eq!(
            findings(&healthy, screen(80, false), Detail::Fix),
            " !! no container engine is here\n\n ok 70 checks, no problem found\n    driver 580.65.06, 2 GPUs; docker, podman\n"
        );
    }
}
