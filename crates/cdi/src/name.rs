//! `vendor/class=device`.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// A device's full name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QualifiedName {
    /// `nvidia.com/gpu`.
    pub kind: String,
    /// `0`, `GPU-…`, `all`.
    pub device: String,
}

impl FromStr for QualifiedName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::Name(text.into());
        let (kind, device) = text.split_once('=').ok_or_else(bad)?;
        if !is_kind(kind) || !is_device(device) {
            return Err(bad());
        }
        Ok(Self {
            kind: kind.to_owned(),
            device: device.to_owned(),
        })
    }
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.device)
    }
}

/// SPEC.md, "Kind": vendor and class, letters at the ends, `_-.` within.
pub(crate) fn is_kind(kind: &str) -> bool {
    kind.split_once('/').is_some_and(|(vendor, class)| {
        [vendor, class].into_iter().all(|part| {
            part.starts_with(|c: char| c.is_ascii_alphabetic())
                && part.ends_with(|c: char| c.is_ascii_alphanumeric())
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        })
    })
}

/// SPEC.md, "Device names": letters and digits at the ends, `_-.:` within.
pub(crate) fn is_device(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':'))
}
