//! Keeps a copy of the host's policy, and says so when the policy is gone: the defaults that then apply let any container
//! ask for GPUs.

use std::fs;
use std::path::Path;

use gpu_host::Root;
use gpu_inject::policy::{self, LAST_SEEN, LastSeen, command_to_put_back};

use super::{say, write};

/// Brings the copy up to date. That it cannot be written is said and is no failure: the GPUs are described all the same.
pub(super) fn keep(root: &Root) {
    let path = Path::new(LAST_SEEN);
    match LastSeen::of(root) {
        LastSeen::Same => {}
        LastSeen::Keep(text) => {
            if let Err(e) = write::file(root, path, &text) {
                say(&format!("{LAST_SEEN}: {e}"));
            }
        }
        LastSeen::Forget => {
            let removed = root.canonicalize(path).map(|real| root.host_path(real));
            if let Err(e) = removed.and_then(fs::remove_file) {
                say(&format!("{LAST_SEEN}: {e}"));
            }
        }
        LastSeen::Gone => say(&format!(
            "the policy of this host, {}, is gone, so that the defaults apply. To put it back: {}. Where it was removed \
             on purpose: rm {LAST_SEEN}",
            policy::PATH,
            command_to_put_back()
        )),
    }
}
