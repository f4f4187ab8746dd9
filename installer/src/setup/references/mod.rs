//! Finds what on this host still needs the programs and the CDI spec of our packages, before one of them is removed:
//! configuration of engines, units, quadlets and containers, both root's and users'. Users' own engines are not
//! queried, and nothing is changed.

pub mod containers;
pub mod reference;
pub mod search;
mod system;
mod time_limit;
mod users;
pub mod words;

use self::reference::{References, Removal};
use crate::error::Error;
use crate::host::Host;
use crate::host::local_files::LocalFiles;
use crate::model::package::Package;
use crate::setup::other_toolkits;

/// Finds what needs these packages. With `after_undo`, settings that `gpusetup undo` removes do not count.
pub fn find(host: &Host, packages: &[Package], after_undo: bool) -> Result<References, Error> {
    // If it is not known who wrote the spec, it counts as ours.
    let is_our_spec = !other_toolkits::spec_is_left(host).unwrap_or(false);
    let removal = Removal::new(packages, is_our_spec);
    let files =
        LocalFiles::open(host.root()).map_err(Error::file(host.root().path(), "look at"))?;
    let mut references = References::default();
    system::add(
        host,
        &files.wherever(),
        &removal,
        after_undo,
        &mut references,
    );
    users::add(host, &files, &removal, &mut references);
    Ok(references)
}
