//! What each module of a crate calls by name: functions of other crates and of its own, each by its full path, and methods;
//! and the texts in it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use crate::modules::{self, Module};

/// Of one module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// `std::fs::write`, `crate::files::atomic_write::link`: what is imported or written out, as it is named there; `*`
    /// where all names of a module are taken.
    pub paths: BTreeSet<String>,
    /// `set_permissions`, of whatever value.
    pub methods: BTreeSet<String>,
    /// What it says, and whatever else is a string literal.
    pub texts: BTreeSet<String>,
}

/// The modules of the crate whose first file is `root`, by their paths within it.
pub fn uses(root: &Path) -> io::Result<BTreeMap<String, Uses>> {
    let modules = modules::read(root)?;
    let of = |(name, module): (&String, &Module)| {
        let paths = module.paths.iter().map(|path| full(name, module, path));
        let outside = module.outside.iter().map(|path| path.join("::"));
        let globs = module.globs.iter().chain(&module.inner_globs);
        let globs = globs.map(|path| full(name, module, path) + "::*");
        let uses = Uses {
            paths: paths.chain(outside).chain(globs).collect(),
            methods: module.methods.clone(),
            texts: module.texts.clone(),
        };
        (name.clone(), uses)
    };
    Ok(modules.iter().map(of).collect())
}

/// With the import before it that its first name stands for.
fn full(name: &str, module: &Module, path: &[String]) -> String {
    let Some((first, rest)) = path.split_first() else {
        return String::new();
    };
    let names = [&module.names, &module.outside_names];
    // `use tempfile;` names itself.
    let import = names
        .into_iter()
        .find_map(|names| names.get(first))
        .filter(|import| import.len() > 1);
    let path = import.map_or_else(|| path.to_vec(), |import| [import, rest].concat());
    let is_within = match path.first().map(String::as_str) {
        Some("self" | "super") => true,
        Some(first) => module.children.contains(first) || module.items.contains(first),
        None => false,
    };
    if !is_within {
        return path.join("::");
    }
    let mut here = name.to_owned();
    let mut rest = path.as_slice();
    while let Some((first, after)) = rest.split_first() {
        match first.as_str() {
            "self" => {}
            "super" => {
                let above = here.rsplit_once("::").map(|(above, _)| above.to_owned());
                here = above.unwrap_or_default();
            }
            _ => break,
        }
        rest = after;
    }
    let here = (!here.is_empty()).then_some(here);
    let parts = std::iter::once("crate").chain(here.as_deref());
    let parts = parts.chain(rest.iter().map(String::as_str));
    parts.collect::<Vec<_>>().join("::")
}
