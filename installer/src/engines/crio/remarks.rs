//! What the user should know of our runtime before a run: the pods that it takes over, and where it starts another
//! low-level program than CRI-O does.

use std::path::Path;

use gpu_inject::policy::PATH;

use super::config::MergedConfig;
use super::given::DEFAULT;
use super::installation::Installation;
use super::sandboxes;
use crate::error::Error;
use crate::host::Host;
use crate::host::policy_file::HostPolicy;
use crate::model::setup_options::SetupOptions;

/// Where the shim's list is somebody else's as well, so that ours starts another program than CRI-O's runtime.
pub(super) fn other_low_level(
    at: &Installation,
    host: &Host,
    merged: &MergedConfig,
    policy: &Result<HostPolicy, Error>,
) -> Option<String> {
    let wanted = SetupOptions::default();
    // `changes` reports a policy that cannot be read, and a program that is not there.
    let policy = &policy.as_ref().ok()?.policy;
    let base = at.base(host, merged, policy, &wanted).ok()?;
    let ours = at.makes(host, &policy.runtimes, &base)?;
    let differs = ours != base.program && !base.is_by_list;
    (differs && Installation::shares_list(host, merged, &wanted)).then(|| {
        format!(
            "the runtime \"nvidia\" starts {} where CRI-O's own is {}; `runtimes` in {PATH} says which, for every engine",
            ours.display(),
            base.program.display()
        )
    })
}

/// Names the pods that ours takes over from the runtime that they run with.
pub(super) fn taken_over(host: &Host, merged: &MergedConfig, wanted: &SetupOptions) -> Vec<String> {
    let name = wanted.runtime_name.as_str();
    let is_theirs = merged.runtime(name).is_some();
    let is_default = merged.text(DEFAULT) == Some(name);
    let mut handlers = Vec::new();
    if is_theirs {
        handlers.push(name);
    }
    // Pods of the default runtime name none, and go on with whatever the default is.
    if is_theirs && is_default || wanted.default_runtime && !is_default {
        handlers.push("");
    }
    let store = merged.text(&["crio", "runroot"]).map(Path::new);
    let found = handlers
        .iter()
        .map(|handler| sandboxes::of_runtime(host, store, handler));
    match found.collect::<Result<Vec<_>, _>>() {
        Ok(pods) if pods.iter().all(Vec::is_empty) => Vec::new(),
        Ok(pods) => vec![format!(
            "crio: pods that run now are stopped, entered and removed by our runtime from the restart on: {}",
            pods.concat().join(", ")
        )],
        Err(why) => vec![format!(
            "crio: our runtime takes over pods that run now; which is not known: {why}"
        )],
    }
}
