//! Reads requests made by annotations: `cdi.k8s.io/<plugin>: name,name` (SPEC.md, "Annotations").

use crate::{Error, QualifiedName};

/// Prefix of the annotations' keys.
pub const PREFIX: &str = "cdi.k8s.io/";

/// The devices that annotations request, without duplicates, in order of the keys.
pub fn requested<'a>(
    annotations: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<QualifiedName>, Error> {
    let mut all: Vec<_> = annotations
        .into_iter()
        .filter(|(key, _)| key.starts_with(PREFIX))
        .collect();
    all.sort_unstable();
    let mut names: Vec<QualifiedName> = Vec::new();
    for name in all.iter().flat_map(|(_, value)| value.split(',')) {
        let name = name.trim().parse()?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}
