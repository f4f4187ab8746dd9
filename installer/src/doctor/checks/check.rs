//! What a check is: a function from the host's facts to what it saw.

use crate::doctor::facts::HostFacts;

/// What was seen of a problem; `None` where the host has not got it.
pub type Check = fn(&HostFacts) -> Option<String>;

/// Checks by the ids of the table.
pub type Checks = &'static [(&'static str, Check)];

/// Several sightings as one text.
pub fn told(mut seen: Vec<String>) -> Option<String> {
    seen.dedup();
    let more = seen.len().saturating_sub(4);
    seen.truncate(4);
    if seen.is_empty() {
        return None;
    }
    let mut text = seen.join("; ");
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    Some(text)
}
