//! Plans a restart of dockerd: which containers it stops, as far as the daemon tells.

use super::client::{Client, DaemonInfo};
use super::containers;
use crate::engines::activation::{Activated, Activation};
use crate::host::Host;
use crate::host::answer::Answer;
use crate::host::not_known;

/// Plans the restart of a daemon that has reported this. `with` is the service, with the effect as a message.
pub fn planned(
    host: &Host,
    client: &Client,
    info: &Answer<DaemonInfo>,
    with: impl Fn(&str) -> Activated,
) -> Activation {
    let not_known = |why: &str| Activation::Restart {
        of: with(&format!(
            "which of its containers stop is {}",
            not_known::why_not_known(host, why)
        )),
        containers: Answer::Unknown(why.to_owned()),
    };
    let info = match info {
        Answer::Known(info) => info,
        Answer::None => return Activation::restart(with("it does not run now; this starts it")),
        Answer::Unknown(why) => return not_known(why),
    };
    // If none runs, there are no names to query.
    let running = match info.running {
        Some(0) => Answer::None,
        _ => containers::running(host, client),
    };
    match running {
        Answer::Unknown(_) if info.live_restore => {
            Activation::restart(with(containers::KEEP_RUNNING))
        }
        Answer::Unknown(why) => not_known(&why),
        Answer::None => Activation::restart(with(&containers::effect(&[], info.live_restore))),
        Answer::Known(names) => Activation::Restart {
            of: with(&containers::effect(&names, info.live_restore)),
            containers: if info.live_restore {
                Answer::None
            } else {
                Answer::Known(names)
            },
        },
    }
}
