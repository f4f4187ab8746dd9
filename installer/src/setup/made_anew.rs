//! Plans what an undo does with files that every boot writes again. They are no user's files, and their earlier text
//! describes a driver that may be gone. If the package's service stays, they are brought up to date; if nothing
//! writes them any more, they are removed.

use std::path::Path;

use gpu_host::{Inventory, Root};
use gpu_inject::generate::SPEC_PATH;
use gpu_inject::generate::host_files;

use crate::error::Error;
use crate::host::Host;
use crate::model::change::{Change, MergeKind};
use crate::setup::gpu_files;
use crate::transaction::change_io;
use crate::transaction::receipt::Receipt;

/// The services that make these files at boot, as systemd, OpenRC and sysvinit know them.
const SERVICES: [&str; 4] = [
    "/etc/systemd/system/gpusetup-cdi.service",
    "/usr/lib/systemd/system/gpusetup-cdi.service",
    "/lib/systemd/system/gpusetup-cdi.service",
    "/etc/init.d/gpusetup-cdi",
];

/// Whether a change is about such a file.
pub fn is(change: &Change) -> bool {
    matches!(change.kind, MergeKind::Generated | MergeKind::Link)
}

/// Whether a service of this host writes these files at boot. A unit in /etc can mask the others.
fn is_made(root: &Root) -> bool {
    let first = SERVICES.iter().find(|s| root.symlink_metadata(s).is_ok());
    let is_masked = |path: &str| {
        root.read_link(path)
            .is_ok_and(|to| to == Path::new("/dev/null"))
    };
    first.is_some_and(|path| !is_masked(path))
}

/// The changes to these files that an undo makes, and warnings for the user.
pub fn changes(host: &Host, receipt: &Receipt) -> Result<(Vec<Change>, Vec<String>), Error> {
    let inventory = gpu_files::inventory(host)?;
    let is_made = is_made(host.root());
    let (mut changes, mut warnings) = (Vec::new(), Vec::new());
    for done in receipt.changes.iter().rev().filter(|c| is(c)) {
        let before = change_io::current(host, done)?;
        let (after, why) = match theirs(done, before.as_deref()) {
            Some(spec) if is_of_driver(spec, &inventory) => {
                (Some(spec.to_owned()), "another tool's, for this driver")
            }
            Some(_) => {
                warnings.push(format!(
                    "{} was another tool's, for another driver; that tool has to make it anew",
                    done.path.display()
                ));
                (None, "another tool's was for another driver")
            }
            // Brought up to date below.
            None if is_made => continue,
            None => {
                let kept = before.as_deref().filter(|now| is_replaced(done, now));
                (
                    kept.map(str::to_owned),
                    "nothing makes it anew once this is undone",
                )
            }
        };
        changes.push(Change {
            before,
            after,
            why: why.into(),
            ..done.clone()
        });
    }
    // Without a driver there is nothing to describe; the service removes what is out of date.
    if is_made && inventory.driver.is_some() {
        let mut fresh = gpu_files::described(host, &inventory)?;
        fresh.retain(|c| {
            let mut known = receipt.changes.iter();
            known.any(|done| done.path == c.path) && !changes.iter().any(|d| d.path == c.path)
        });
        for change in &mut fresh {
            change.why = "made anew for this driver; gpusetup-cdi.service keeps it so".into();
        }
        changes.extend(fresh);
    }
    Ok((changes, warnings))
}

/// The spec of another tool that is there now or that we replaced.
fn theirs<'a>(done: &'a Change, now: Option<&'a str>) -> Option<&'a str> {
    if done.path != Path::new(SPEC_PATH) || done.kind == MergeKind::Link {
        return None;
    }
    let is_theirs = |text: &&str| !host_files::is_ours(text);
    let now = now
        .filter(is_theirs)
        .filter(|now| Some(*now) != done.after.as_deref());
    now.or(done.before.as_deref().filter(is_theirs))
}

/// Whether a spec describes the driver of this host, as far as the spec shows.
fn is_of_driver(spec: &str, inventory: &Inventory) -> bool {
    let here = inventory.driver.as_ref().map(|d| d.version.clone());
    here.is_none_or(|here| driver_of(spec).is_none_or(|version| version == here))
}

/// Whether our link has been replaced by a link to another device.
fn is_replaced(done: &Change, now: &str) -> bool {
    done.kind == MergeKind::Link && done.after.as_deref() != Some(now)
}

/// The driver's version, taken from the name of the CUDA library in a spec.
pub fn driver_of(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("libcuda.so.")?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    let version = rest[..end].trim_end_matches('.');
    if version.contains('.') {
        return Some(version.to_owned());
    }
    driver_of(&rest[end..])
}
