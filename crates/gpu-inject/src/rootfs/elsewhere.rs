//! Why a place that is not the container's own cannot be used.

use std::fmt::{self, Display, Formatter};
use std::io;

use crate::error::Error;

/// Why a place that is not the container's own cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elsewhere {
    /// The user has mounted something there.
    Volume,
    /// A link of the image leads to what the user has mounted somewhere else.
    ByLink,
    /// What is mounted there would show up on the host, too.
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
    /// Where this says that a place is not the container's own: why.
    pub(crate) fn elsewhere(&self) -> Option<Elsewhere> {
        let (Self::Rootfs { source, .. } | Self::System { source, .. }) = self else {
            return None;
        };
        of_io(source)
    }
}

/// The same of an error of the system's kind.
pub(crate) fn of_io(error: &io::Error) -> Option<Elsewhere> {
    error.get_ref()?.downcast_ref().copied()
}
