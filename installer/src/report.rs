//! What the user reads: progress on standard error, the result on standard output.

use std::io::{IsTerminal, Write};

use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

use crate::change::{Change, FileKind};
use crate::error::Error;
use crate::plan::Plan;
use crate::verify::Verified;

/// Lines while a run goes on.
pub struct Progress {
    quiet: bool,
    utf8: bool,
    colour: bool,
}

impl Progress {
    /// Marks in UTF-8 where the locale has it, colour on a terminal without `NO_COLOR`.
    pub fn new(quiet: bool) -> Self {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .iter()
            .find_map(|v| std::env::var(v).ok().filter(|v| !v.is_empty()))
            .unwrap_or_default()
            .to_lowercase();
        Self {
            quiet,
            utf8: locale.contains("utf-8") || locale.contains("utf8"),
            colour: std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    fn line(&self, mark: (&str, &str), colour: &str, text: &str) {
        let mark = if self.utf8 { mark.0 } else { mark.1 };
        if self.colour {
            eprintln!("  \x1b[{colour}m{mark}\x1b[0m {text}");
        } else {
            eprintln!("  {mark} {text}");
        }
    }

    /// A step done.
    pub fn done(&self, text: &str) {
        if !self.quiet {
            self.line(("✓", "ok"), "32", text);
        }
    }

    /// A step failed; shown however quiet.
    pub fn failed(&self, text: &str) {
        self.line(("✗", "FAILED"), "31", text);
    }

    /// A step taken back; shown however quiet.
    pub fn back(&self, text: &str) {
        self.line(("↩", "<-"), "33", text);
    }

    /// A remark.
    pub fn warn(&self, text: &str) {
        self.line(("!", "!"), "33", text);
    }
}

/// The plan as people read it.
pub fn plan(plan: &Plan, verb_create: &str, restart: bool) -> String {
    let mut text = String::new();
    let mut number = 0;
    let mut item = |text: &mut String, verb: &str, what: &str, why: &str| {
        number += 1;
        let line = format!("  {number}  {verb:<8}{what:<44}  {why}");
        text.push_str(line.trim_end());
        text.push('\n');
    };
    for change in &plan.changes {
        let verb = match (&change.before, &change.after, &change.kind) {
            (_, None, _) => "remove",
            (_, _, FileKind::Generated) => "write",
            (None, Some(_), _) => verb_create,
            _ => "edit",
        };
        item(
            &mut text,
            verb,
            &change.path.display().to_string(),
            &change.why,
        );
        if change.kind != FileKind::Generated && change.after.is_some() {
            text.push_str(&diff(change));
        }
    }
    for (engine, activation) in &plan.engines {
        if restart && activation.restart.is_some() {
            item(
                &mut text,
                "restart",
                &engine.facts().name,
                &activation.effect,
            );
        }
    }
    text
}

/// Changed lines with two around them, secrets masked.
fn diff(change: &Change) -> String {
    let (before, after) = (
        mask(change.before.as_deref()),
        mask(change.after.as_deref()),
    );
    let diff = TextDiff::from_lines(&before, &after);
    let mut text = String::new();
    for (n, group) in diff.grouped_ops(2).iter().enumerate() {
        if n > 0 {
            text.push_str("       …\n");
        }
        for op in group {
            for line in diff.iter_changes(op) {
                let sign = match line.tag() {
                    ChangeTag::Delete => '-',
                    ChangeTag::Insert => '+',
                    ChangeTag::Equal => ' ',
                };
                text.push_str(format!("     {sign} {}", line.value()).trim_end());
                text.push('\n');
            }
        }
    }
    text
}

/// Passwords stand in URLs: `http://user:password@proxy`.
fn mask(text: Option<&str>) -> String {
    let mut out = String::new();
    let mut rest = text.unwrap_or_default();
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        let end = tail
            .find(['/', '"', '\'', '\n', ' ', ','])
            .unwrap_or(tail.len());
        let (authority, after) = tail.split_at(end);
        match authority.rsplit_once('@') {
            Some((_, host)) => {
                out.push_str("***@");
                out.push_str(host);
            }
            None => out.push_str(authority),
        }
        rest = after;
    }
    out + rest
}

/// The one document of `--json`.
pub fn document(plan: Option<&Plan>, changed: bool, verified: &[Verified], restart: bool) -> Value {
    let none = Vec::new();
    let changes = plan.map_or(&none, |p| &p.changes);
    let header = |c: &Change, there: bool| {
        if there {
            c.path.display().to_string()
        } else {
            String::new()
        }
    };
    let diff: Vec<Value> = changes
        .iter()
        .map(|c| {
            json!({
                "before_header": header(c, c.before.is_some()),
                "after_header": header(c, c.after.is_some()),
                "before": mask(c.before.as_deref()),
                "after": mask(c.after.as_deref()),
            })
        })
        .collect();
    json!({
        "schema": 1,
        "changed": changed,
        "restart_required": if restart { Vec::new() } else { plan.map(Plan::units).unwrap_or_default() },
        "warnings": plan.map(|p| p.warnings.clone()).unwrap_or_default(),
        "diff": diff,
        "verified": verified,
    })
}

/// The document of a run that failed.
pub fn failure(error: &Error) -> Value {
    let left = match error {
        Error::NotPutBack { left, .. } => left.clone(),
        _ => Vec::new(),
    };
    json!({
        "schema": 1,
        "changed": !left.is_empty(),
        "failed": true,
        "msg": error.to_string(),
        "fix": error.fix(),
        "left": left,
        "exit_code": error.exit_code(),
    })
}

/// Prints the result; a reader that has gone away is no failure of ours.
pub fn result(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_masked() {
        let text = "{\"proxies\": {\"http-proxy\": \"http://u:p@proxy:3128/x\", \"m\": \"https://mirror\"}}";
        assert_eq!(mask(Some(text)), text.replace("u:p@", "***@"));
        assert_eq!(mask(Some("a://b@")), "a://***@");
    }
}
