//! A list of the driver's capabilities, as variables and the policy write it.

use gpu_host::{Capabilities, Capability};

use crate::error::Error;

/// A comma list of words, or `all`.
pub(crate) fn parse(list: &str) -> Result<Capabilities, Error> {
    let mut found = Capabilities::NONE;
    for word in list.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        if word == "all" {
            return Ok(Capabilities::ALL);
        }
        let one = Capability::from_word(word).ok_or_else(|| Error::Capability(word.into()))?;
        found = found.with(one);
    }
    Ok(found)
}
