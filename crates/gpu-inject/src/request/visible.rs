//! The devices that a container asks for.

use std::fmt;

use super::allowed::AllowedName;
use crate::error::Excerpt;

/// The devices asked for.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Visible {
    /// Not a GPU container: unset, empty or `void`.
    #[default]
    None,
    /// The driver's files without a GPU: `none`.
    DriverOnly,
    /// Every GPU.
    All,
    /// Indices, UUIDs, PCI addresses, `gpu:mig` pairs, CDI names, as written, each once.
    Listed(Vec<AllowedName>),
}

/// For a log: of names, which are an image's, no more than an excerpt.
impl fmt::Debug for Visible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("nothing"),
            Self::DriverOnly => f.write_str("no GPU"),
            Self::All => f.write_str("all GPUs"),
            Self::Listed(names) => {
                let some = names
                    .iter()
                    .take(32)
                    .map(|n| Excerpt::of(n.text()).to_string());
                let some: Vec<String> = some.collect();
                let count = names.len();
                write!(f, "{count} by name: {}", Excerpt::of(some.join(",")))
            }
        }
    }
}
