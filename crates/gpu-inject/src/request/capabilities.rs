//! `NVIDIA_DRIVER_CAPABILITIES`.

use gpu_host::{Capabilities, Capability};

use crate::capability_list::parse;
use crate::error::{Error, Message};
use crate::oci::ContainerView;
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
