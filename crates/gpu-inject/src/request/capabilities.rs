//! `NVIDIA_DRIVER_CAPABILITIES`.

use gpu_host::{Capabilities, Capability};

use super::ContainerView;
use crate::error::{Error, Message};
use crate::policy::Policy;

/// What is asked for and allowed, and a warning for what is asked for and not allowed.
///
/// A word that is no capability is an error. One that `supported-driver-capabilities`
/// leaves out is left out: the container starts with less, instead of not at all as under
/// nvidia-container-toolkit's legacy mode, and not with all of it as under its others.
pub(super) fn read(
    container: ContainerView<'_>,
    policy: &Policy,
    legacy: bool,
) -> Result<(Capabilities, Option<Message>), Error> {
    let wanted = match container.env("NVIDIA_DRIVER_CAPABILITIES").map(str::trim) {
        None if legacy => return Ok((policy.supported, None)),
        None | Some("") => {
            let usual = Capabilities::of(&[Capability::Compute, Capability::Utility]);
            return Ok((usual.and(policy.supported), None));
        }
        Some(list) => parse(list)?,
    };
    let given = wanted.and(policy.supported);
    let denied: Vec<&str> = wanted
        .iter()
        .filter(|c| !policy.supported.has(*c))
        .map(Capability::word)
        .collect();
    let warning = (wanted != Capabilities::ALL && !denied.is_empty()).then(|| {
        Message::of(format_args!(
            "NVIDIA_DRIVER_CAPABILITIES asks for {}, which supported-driver-capabilities in {} leaves out",
            denied.join(","),
            policy.path.display()
        ))
    });
    Ok((given, warning))
}

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
