//! Parses a list of driver capabilities, as in environment variables and in the policy.

use gpu_host::{Capabilities, Capability};

use crate::error::Error;

/// Parses a comma-separated list of words; `all` means every capability.
pub(crate) fn parse(list: &str) -> Result<Capabilities, Error> {
    let mut capabilities = Capabilities::NONE;
    for word in list.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        if word == "all" {
            return Ok(Capabilities::ALL);
        }
        let capability =
            Capability::from_word(word).ok_or_else(|| Error::Capability(word.into()))?;
        capabilities = capabilities.with(capability);
    }
    Ok(capabilities)
}
