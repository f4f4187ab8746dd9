//! index.html: one file, nothing loaded, no script. A section a file.

mod changes;
mod doctor;
mod host;
mod texts;
mod topology;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use super::Bundle;

/// The page.
pub fn html(bundle: &Bundle) -> String {
    let problems = doctor::count(&bundle.doctor);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // Nothing is loaded, whatever a log line says.
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
                        ". Passwords, tokens and keys are masked as " code { "***" } "."
                    }
                    nav aria-label="Sections" {
                        a href="#host" { "Host" }
                        a href="#doctor" { "Problems " span.count { (problems) } }
                        a href="#topology" { "Topology" }
                        a href="#changes" { "Changes " span.count { (bundle.changes.len()) } }
                        a href="#files" { "Files " span.count { (bundle.files.len()) } }
                        a href="#logs" { "Logs " span.count { (bundle.logs.len()) } }
                    }
                }
                main {
                    (host::section(bundle))
                    (doctor::section(&bundle.doctor))
                    (topology::section(&bundle.topology))
                    (changes::section(&bundle.changes))
                    (texts::section("files", "Files", &bundle.files))
                    (texts::section("logs", "Logs", &bundle.logs))
                    (unread(&bundle.unread))
                }
            }
        }
    }
    .into_string()
}

fn unread(unread: &[String]) -> Markup {
    html! {
        section #unread aria-labelledby="unread-title" {
            h2 #unread-title { "Not read" }
            @if unread.is_empty() {
                p { "Everything that was looked for could be read." }
            } @else {
                ul { @for line in unread { li { (line) } } }
            }
        }
    }
}

/// A text of a document; empty where it has none.
fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// A list of a document.
fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}
