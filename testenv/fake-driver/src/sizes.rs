//! How large a real driver's files are, so that a program that reads whole libraries where headers would do is
//! noticed.

use std::collections::BTreeMap;

const TABLE: &str = include_str!("../sizes.toml");

/// Sizes in bytes by name; for libraries by the part before `.so`.
pub(crate) struct Sizes(BTreeMap<String, u64>);

impl Sizes {
    /// The recorded sizes, or none at all, for files that are as small as possible.
    pub(crate) fn new(are_real: bool) -> Self {
        let table = || toml::from_str(TABLE).expect("sizes.toml is read by this crate's tests");
        Self(if are_real { table() } else { BTreeMap::new() })
    }

    /// The size of the file of that name; 0 if it is not recorded.
    pub(crate) fn of(&self, name: &str) -> u64 {
        let stem = name.split_once(".so").map_or(name, |(stem, _)| stem);
        self.0.get(stem).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_libraries_are_of_100_mb() {
        let sizes = Sizes::new(true);
        for name in ["libcuda.so.580.1", "libnvoptix.so.1", "libnvidia-rtcore"] {
            assert!(sizes.of(name) > 90_000_000, "{name}");
        }
        assert_eq!(sizes.of("libnothing.so.1"), 0);
        assert_eq!(Sizes::new(false).of("libcuda.so"), 0);
    }
}
