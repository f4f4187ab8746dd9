//! Qualified device names, `vendor/class=device`.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// A device's qualified name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QualifiedName {
    /// Vendor and class, such as `nvidia.com/gpu`.
    pub kind: String,
    /// The device within the kind, such as `0`, `GPU-…` or `all`.
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

/// Whether the text is a kind (SPEC.md, "Kind"): vendor and class, each beginning with a letter and ending with a letter or digit, with `_-.` allowed in between.
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

/// Whether the text is a device name (SPEC.md, "Device names"): a letter or digit at both ends, with `_-.:` allowed in between.
pub(crate) fn is_device(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':'))
}
