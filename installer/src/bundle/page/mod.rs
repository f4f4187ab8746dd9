//! Renders a bundle as index.html: one file without scripts that loads nothing. Each section has a
//! module.

mod changes;
mod doctor;
mod host;
mod parts;
mod texts;
mod topology;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Bundle;
use crate::bundle::page::parts::marked;

/// The page as HTML.
pub fn html(bundle: &Bundle) -> String {
    let problems = doctor::count(&bundle.doctor);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // The browser loads nothing, even if a log line contained markup.
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:";
                title { "GPU containers on this host" }
                link rel="icon" href="data:,";
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                header {
                    h1 { "GPU containers on this host" }
                    p.quiet {
                        "gpusetup " (bundle.version) ", " time datetime=(bundle.made) { (bundle.made) }
                        ". What is not known to be harmless is masked, like " mark { "<masked string, 24 bytes>" } ": look at it before you send it."
                    }
                    nav aria-label="Sections" {
                        a href="#host" { "Host" }
                        a href="#doctor" { "Problems " span.count { (problems) } }
                        a href="#topology" { "Topology" }
                        a href="#changes" { "Changes " span.count { (bundle.changes.len()) } }
                        a href="#files" { "Files " span.count { (bundle.files.len()) } }
                        a href="#logs" { "Logs " span.count { (bundle.logs.len()) } }
                        a href="#masked" { "Masked " span.count { (bundle.masked().values().sum::<usize>()) } }
                    }
                }
                main {
                    (host::section(bundle))
                    (doctor::section(&bundle.doctor))
                    (topology::section(&bundle.topology))
                    (changes::section(&bundle.changes))
                    (texts::section("files", "Files", &bundle.files))
                    (texts::section("logs", "Logs", &bundle.logs))
                    (masked(bundle))
                    (unread(&bundle.unread))
                }
            }
        }
    }
    .into_string()
}

/// How much was masked in each part, so that the sender can check it.
fn masked(bundle: &Bundle) -> Markup {
    let masked = bundle.masked();
    html! {
        section #masked aria-labelledby="masked-title" {
            h2 #masked-title { "Masked" }
            @if masked.is_empty() {
                p { "Nothing had to be masked." }
            } @else {
                ul { @for (name, count) in &masked { li { code { (name) } " " (count) } } }
            }
        }
    }
}

fn unread(unread: &[String]) -> Markup {
    html! {
        section #unread aria-labelledby="unread-title" {
            h2 #unread-title { "Not read" }
            @if unread.is_empty() {
                p { "Everything that was looked for could be read." }
            } @else {
                ul { @for line in unread { li { (marked(line)) } } }
            }
        }
    }
}
