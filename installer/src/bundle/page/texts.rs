//! The page's sections on files and logs.

use maud::{Markup, html};

use crate::bundle::TextFile;
use crate::bundle::page::parts::marked;
use crate::terminal::redact;

/// How many lines of a text are shown, to keep the page readable. The archive has all of them.
const LINES: usize = 200;

pub(super) fn section(id: &str, title: &str, texts: &[TextFile]) -> Markup {
    let is_log = id == "logs";
    html! {
        section id=(id) aria-labelledby={ (id) "-title" } {
            h2 id={ (id) "-title" } { (title) }
            @if texts.is_empty() { p { "None that could be read." } }
            @for text in texts {
                details {
                    summary {
                        code { (text.name) } " "
                        span.quiet { (text.content.lines().count()) " lines" @if text.cut { ", not all" } (masked(&text.content)) }
                    }
                    pre tabindex="0" { (marked(&part(&text.content, is_log))) }
                }
            }
        }
    }
}

/// How many values were masked in a text.
fn masked(text: &str) -> String {
    match redact::count(text) {
        0 => String::new(),
        n => format!(", {n} masked"),
    }
}

/// The part that is shown: the end of a log, the beginning of a file.
fn part(text: &str, is_log: bool) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let more = lines.len().saturating_sub(LINES);
    if more == 0 {
        return text.to_owned();
    }
    if is_log {
        format!(
            "… {more} lines before, in the archive\n{}",
            lines[more..].join("\n")
        )
    } else {
        format!(
            "{}\n… {more} lines more, in the archive",
            lines[..LINES].join("\n")
        )
    }
}
