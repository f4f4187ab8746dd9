//! Defines a check: a function from the host's facts to what it saw.

use crate::doctor::facts::HostFacts;

/// Returns the evidence of a problem; `None` if the host does not have it.
pub type Check = fn(&HostFacts) -> Option<String>;

/// Checks with the ids of the problems they look for.
pub type Checks = &'static [(&'static str, Check)];

/// Joins the evidence into one text: the first four items, then the number of the others.
pub fn evidence(mut findings: Vec<String>) -> Option<String> {
    findings.dedup();
    let more = findings.len().saturating_sub(4);
    findings.truncate(4);
    if findings.is_empty() {
        return None;
    }
    let mut text = findings.join("; ");
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    Some(text)
}
