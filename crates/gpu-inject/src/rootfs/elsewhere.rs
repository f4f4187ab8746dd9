//! The error for a path that leads to a file system which is not the container's alone.

use std::fmt::{self, Display, Formatter};
use std::io;

use crate::error::Error;

/// Why a path that leads out of the container's own file systems cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elsewhere {
    /// The path is in a volume that the user has mounted.
    Volume,
    /// A link of the image leads into a volume that the user has mounted elsewhere.
    ByLink,
    /// A mount made there would propagate to the host.
    Shared,
}

impl Display for Elsewhere {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Volume => {
                "this is in a volume, where nothing is made for a container; mount the volume \
                 somewhere else, or have an empty file of that name in it"
            }
            Self::ByLink => {
                "a link of the image leads out of its root file system into a volume, where \
                 nothing is made for a container; mount the volume somewhere else, or use an \
                 image without that link"
            }
            Self::Shared => {
                "mounts made there would show up on the host, since the volume has shared \
                 propagation; give the volume as private or slave"
            }
        })
    }
}

impl std::error::Error for Elsewhere {}

impl Error {
    /// The [`Elsewhere`] that caused this error, if one did.
    pub(crate) fn elsewhere(&self) -> Option<Elsewhere> {
        let (Self::Rootfs { source, .. } | Self::System { source, .. }) = self else {
            return None;
        };
        of_io(source)
    }
}

/// The [`Elsewhere`] that is wrapped in an I/O error, if one is.
pub(crate) fn of_io(error: &io::Error) -> Option<Elsewhere> {
    error.get_ref()?.downcast_ref().copied()
}
