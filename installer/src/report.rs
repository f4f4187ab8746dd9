//! What the user reads: progress on standard error, the result on standard output.

use std::io::{IsTerminal, Write};

use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

use crate::change::{Change, FileKind};
use crate::error::Error;
use crate::plan::Plan;
use crate::verify::Verified;

/// Writes to standard error. Nobody may be reading there any more, which is no reason to
/// stop in the middle of a run, as `eprintln` would.
macro_rules! say {
    (@ $($text:tt)*) => {{
        use std::io::Write as _;
        let _ = write!(std::io::stderr(), $($text)*);
    }};
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}
pub(crate) use say;

/// Lines while a run goes on.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each its own property of the terminal"
)]
pub struct Progress {
    quiet: bool,
    utf8: bool,
    terminal: bool,
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
        let terminal = std::io::stderr().is_terminal();
        Self {
            quiet,
            utf8: locale.contains("utf-8") || locale.contains("utf8"),
            terminal,
            colour: terminal && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    fn line(&self, mark: (&str, &str), colour: &str, text: &str) {
        log::info!("{} {text}", mark.1);
        if self.terminal {
            // Over what `doing` said.
            say!(@ "\r\x1b[K");
        }
        let mark = if self.utf8 { mark.0 } else { mark.1 };
        if self.colour {
            say!("  \x1b[{colour}m{mark}\x1b[0m {text}");
        } else {
            say!("  {mark} {text}");
        }
    }

    /// A step that takes a while begins; shown on a terminal until the next line.
    pub fn doing(&self, text: &str) {
        if self.terminal && !self.quiet {
            say!(@ "\r\x1b[K  {} {text}", if self.utf8 { "…" } else { "..." });
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
    for (n, change) in plan.changes.iter().enumerate() {
        // A host has hundreds of device nodes; one line tells of all their links.
        let is_link = |c: &Change| c.kind == FileKind::Link;
        if is_link(change) && n > 0 && is_link(&plan.changes[n - 1]) {
            continue;
        }
        let verb = match (&change.before, &change.after, &change.kind) {
            (_, None, _) => "remove",
            (_, _, FileKind::Generated) => "write",
            (_, _, FileKind::Link) => "link",
            (None, Some(_), _) => verb_create,
            _ => "edit",
        };
        let more = plan.changes[n + 1..].iter().take_while(|c| is_link(c));
        let what = match more.count() {
            more if is_link(change) && more > 0 => {
                format!("{} and {more} more", change.path.display())
            }
            _ => change.path.display().to_string(),
        };
        item(&mut text, verb, &what, &change.why);
        if !matches!(change.kind, FileKind::Generated | FileKind::Link) && change.after.is_some() {
            text.push_str(&diff(change));
        }
    }
    for (engine, activation) in &plan.engines {
        if restart && activation.service.is_some() {
            item(
                &mut text,
                if activation.reload {
                    "reload"
                } else {
                    "restart"
                },
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
        "restart_required": if restart { Vec::new() } else { plan.map(Plan::service_names).unwrap_or_default() },
        "warnings": plan.map(|p| p.warnings.clone()).unwrap_or_default(),
        "foreign": plan.map(|p| &p.foreign),
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
