//! Keeps a copy of the host's policy, and says so when the policy is gone: the defaults that then apply let any container
//! ask for GPUs.

use std::fs;
use std::path::Path;

use gpu_host::Root;
use gpu_inject::policy::{self, LAST_SEEN, LastSeen, command_to_put_back};

use super::write;

/// Brings the copy up to date. Returns what is to be said: that the policy is gone, or that the copy cannot be written,
/// which is no failure, since the GPUs are described all the same.
pub(super) fn keep(root: &Root) -> Option<String> {
    let path = Path::new(LAST_SEEN);
    let kept = match LastSeen::of(root) {
        LastSeen::Same => Ok(()),
        LastSeen::Keep(text) => write::file(root, path, &text).map(drop),
        LastSeen::Forget => {
            let real = root.canonicalize(path).map(|real| root.host_path(real));
            real.and_then(fs::remove_file)
        }
        LastSeen::Gone => {
            return Some(format!(
                "the policy of this host, {}, is gone, so that the defaults apply. To put it back: {}. Where it was \
                 removed on purpose: rm {LAST_SEEN}",
                policy::PATH,
                command_to_put_back()
            ));
        }
    };
    kept.err().map(|e| format!("{LAST_SEEN}: {e}"))
}
