//! The page's section on the problems that doctor found.

use maud::{Markup, html};
use serde_json::Value;

use crate::bundle::page::parts::{list, text};

/// The number of problems.
pub(super) fn count(doctor: &Value) -> usize {
    list(doctor, "problems").len()
}

pub(super) fn section(doctor: &Value) -> Markup {
    let passed = list(doctor, "passed");
    html! {
        section #doctor aria-labelledby="doctor-title" {
            h2 #doctor-title { "Problems" }
            @if count(doctor) == 0 {
                p { span.good { "None found" } " by " (passed.len()) " checks." }
            }
            ol.problems {
                @for problem in list(doctor, "problems") {
                    li class=(text(problem, "severity")) {
                        h3 { (text(problem, "title")) }
                        p.quiet {
                            code { (text(problem, "id")) } " · " (text(problem, "severity"))
                        }
                        p { (text(problem, "evidence")) }
                        p { strong { "Cause: " } (text(problem, "cause")) }
                        p { strong { "Fix: " } (text(problem, "fix")) }
                        @if let Some(command) = problem["command"].as_str() {
                            pre tabindex="0" { (command) }
                        }
                    }
                }
            }
            @if count(doctor) > 0 {
                p.quiet { (passed.len()) " other checks found nothing." }
            }
            @if let Some(unread) = doctor["unread"].as_str() {
                p.quiet { "Not everything could be looked at: " (unread) }
            }
            @for check in list(doctor, "not_looked") {
                p.quiet { code { (text(check, "id")) } " could not look: " (text(check, "why")) }
            }
        }
    }
}
