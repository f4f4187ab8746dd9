//! Reads `NVIDIA_DRIVER_CAPABILITIES`.

use gpu_host::{Capabilities, Capability};

use crate::capability_list::parse;
use crate::error::{Error, Message};
use crate::oci::ContainerView;
use crate::policy::Policy;

/// The requested capabilities that the policy allows, and a warning if it does not allow some.
///
/// A word that is not a capability is an error. A capability that
/// `supported-driver-capabilities` does not list is left out, and the container starts without
/// it. nvidia-container-toolkit refuses the container in legacy mode and gives it everything in
/// its other modes.
pub(super) fn read(
    container: ContainerView<'_>,
    policy: &Policy,
    legacy: bool,
) -> Result<(Capabilities, Option<Message>), Error> {
    let requested = match container.env("NVIDIA_DRIVER_CAPABILITIES").map(str::trim) {
        None if legacy => return Ok((policy.supported, None)),
        None | Some("") => {
            let usual = Capabilities::of(&[Capability::Compute, Capability::Utility]);
            return Ok((usual.and(policy.supported), None));
        }
        Some(list) => parse(list)?,
    };
    let granted = requested.and(policy.supported);
    let denied: Vec<&str> = requested
        .iter()
        .filter(|c| !policy.supported.has(*c))
        .map(Capability::word)
        .collect();
    let warning = (requested != Capabilities::ALL && !denied.is_empty()).then(|| {
        Message::of(format_args!(
            "NVIDIA_DRIVER_CAPABILITIES asks for {}, which supported-driver-capabilities in {} leaves out",
            denied.join(","),
            policy.path.display()
        ))
    });
    Ok((granted, warning))
}
