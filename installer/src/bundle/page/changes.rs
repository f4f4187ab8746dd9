//! The page's section on changes: a timeline of what gpusetup has changed.

use maud::{Markup, html};
use similar::ChangeTag;

use crate::bundle::page::parts::marked;
use crate::bundle::{Done, Now};
use crate::edit::diff::LineDiff;

/// How many lines of a diff are shown. Files that gpusetup wrote as a whole can be long, and more
/// of them would not help a reader.
const LINES: usize = 60;

pub(super) fn section(changes: &[Done]) -> Markup {
    html! {
        section #changes aria-labelledby="changes-title" {
            h2 #changes-title { "Changes" }
            @if changes.is_empty() {
                p { "gpusetup has changed nothing on this host." }
            } @else {
                p.quiet { "By the time of the run that made them, the latest last." }
            }
            ol.timeline {
                // A host can have hundreds of links to device nodes: one entry for all.
                @for same in changes.chunk_by(|a, b| a.why == b.why && state(a) == state(b)) {
                    li { (entry(same)) }
                }
            }
        }
    }
}

fn state(change: &Done) -> (Option<&str>, Now, bool) {
    (change.time(), change.now, change.unfinished)
}

/// The entry for one change, or for several of the same kind.
fn entry(same: &[Done]) -> Markup {
    let change = &same[0];
    let more = same.len() - 1;
    html! {
        p {
            @match (&change.at, &change.written) {
                (Some(at), _) => { time datetime=(at) { (at) } " " }
                (None, Some(written)) => { "last written " time datetime=(written) { (written) } " " }
                (None, None) => {}
            }
            @match (change.now, &change.written) {
                (Now::Ours, _) => { span.good { "as written" } }
                (Now::Changed, Some(written)) if change.at.is_some() => {
                    span.warn { "changed since, last " time datetime=(written) { (written) } }
                }
                (Now::Changed, _) => { span.warn { "changed since" } }
                (Now::Gone, _) => { span.warn { "gone since" } }
                (Now::Unread, _) => { span.warn { "cannot be read" } }
            }
            @if change.unfinished { " " span.warn { "of a run that has not ended" } }
        }
        h3 { code { (change.path) } @if more > 0 { " and " (more) " more" } }
        p { (change.why) }
        // Readers look for changes to existing files; a new file can be long, so it is closed.
        details open[change.before.is_some()] {
            summary { "What changed" span.sr { " in " (change.path) } }
            @for change in same { (diff(change)) }
        }
    }
}

fn diff(change: &Done) -> Markup {
    let before = change.before.as_deref().unwrap_or_default();
    let after = change.after.as_deref().unwrap_or_default();
    let lines = LineDiff::new(before, after).groups(3).concat();
    html! {
        pre.diff tabindex="0" {
            @for line in lines.iter().take(LINES) {
                @match line.tag() {
                    ChangeTag::Delete => { del { "- " (marked(line.value().trim_end_matches('\n'))) } }
                    ChangeTag::Insert => { ins { "+ " (marked(line.value().trim_end_matches('\n'))) } }
                    ChangeTag::Equal => { "  " (marked(line.value().trim_end_matches('\n'))) }
                }
                "\n"
            }
            @if lines.len() > LINES {
                "… and " (lines.len() - LINES) " lines more, in changes.json\n"
            }
        }
    }
}
