//! What gpusetup has changed, as a timeline.

use maud::{Markup, html};
use similar::{ChangeTag, TextDiff};

use crate::bundle::{Done, Now};

/// Of a text that is ours as a whole, more lines than that say nothing to a reader.
const LINES: usize = 60;

pub(super) fn section(changes: &[Done]) -> Markup {
    html! {
        section #changes aria-labelledby="changes-title" {
            h2 #changes-title { "Changes" }
            @if changes.is_empty() {
                p { "gpusetup has changed nothing on this host." }
            } @else {
                p.quiet { "By the time each file was last written, the latest last." }
            }
            ol.timeline {
                @for change in changes {
                    li { (entry(change)) }
                }
            }
        }
    }
}

fn entry(change: &Done) -> Markup {
    html! {
        p {
            @if let Some(written) = &change.written {
                time datetime=(written) { (written) } " "
            }
            @match change.now {
                Now::Ours => { span.good { "as written" } }
                Now::Changed => { span.warn { "changed since" } }
                Now::Gone => { span.warn { "gone since" } }
                Now::Unread => { span.warn { "cannot be read" } }
            }
            @if change.unfinished { " " span.warn { "of a run that has not ended" } }
        }
        h3 { code { (change.path) } }
        p { (change.why) }
        details {
            summary { "What changed" span.sr { " in " (change.path) } }
            (diff(change))
        }
    }
}

fn diff(change: &Done) -> Markup {
    let before = change.before.as_deref().unwrap_or_default();
    let after = change.after.as_deref().unwrap_or_default();
    let diff = TextDiff::from_lines(before, after);
    let groups = diff.grouped_ops(3);
    let lines: Vec<_> = groups
        .iter()
        .flat_map(|group| group.iter().flat_map(|op| diff.iter_changes(op)))
        .collect();
    html! {
        pre.diff tabindex="0" {
            @for line in lines.iter().take(LINES) {
                @match line.tag() {
                    ChangeTag::Delete => { del { "- " (line.value().trim_end_matches('\n')) } }
                    ChangeTag::Insert => { ins { "+ " (line.value().trim_end_matches('\n')) } }
                    ChangeTag::Equal => { "  " (line.value().trim_end_matches('\n')) }
                }
                "\n"
            }
            @if lines.len() > LINES {
                "… and " (lines.len() - LINES) " lines more, in changes.json\n"
            }
        }
    }
}
