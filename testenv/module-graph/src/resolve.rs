//! Finds the file that a path in another file leads to.

use crate::modules::{Modules, join};

/// The longest chain of re-exports that is followed; nobody nests them deeper.
const MAX_STEPS: usize = 32;

/// The module that defines what `path` names; None if it is another crate's or a local name.
pub(crate) fn target(modules: &Modules, module: &str, path: &[String]) -> Option<String> {
    from(modules, module, path, MAX_STEPS)
}

fn from(modules: &Modules, module: &str, path: &[String], steps: usize) -> Option<String> {
    let steps = steps.checked_sub(1)?;
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => within(modules, "", rest, steps),
        "self" => within(modules, module, rest, steps),
        "super" => within_above(modules, module, rest, steps),
        _ => {
            let here = modules.get(module)?;
            let is_known = here.children.contains(first)
                || here.names.contains_key(first)
                || here.items.contains(first);
            if is_known {
                return within(modules, module, path, steps);
            }
            by_globs(modules, module, path, steps)
        }
    }
}

fn within_above(modules: &Modules, module: &str, path: &[String], steps: usize) -> Option<String> {
    let above = module.rsplit_once("::").map_or("", |(above, _)| above);
    match path.split_first() {
        Some((first, rest)) if first == "super" => within_above(modules, above, rest, steps),
        _ => within(modules, above, path, steps),
    }
}

/// The module that `path` leads to when it is read in `module`.
fn within(modules: &Modules, module: &str, path: &[String], steps: usize) -> Option<String> {
    let steps = steps.checked_sub(1)?;
    let Some((first, rest)) = path.split_first() else {
        return Some(module.to_owned());
    };
    let here = modules.get(module)?;
    // A function can have the name of a module, but a longer path cannot lead into a function.
    let is_way_on = !rest.is_empty() && here.children.contains(first);
    if here.items.contains(first) && !is_way_on {
        return Some(module.to_owned());
    }
    if let Some(known) = here.names.get(first) {
        // `use child::child`: a module and an item in it have the same name.
        let is_itself = known.len() == 1 && known[0] == *first;
        if !is_itself && let Some(found) = from(modules, module, known, steps) {
            if modules.contains_key(&found) && is_module(modules, module, known, &found) {
                return within(modules, &found, rest, steps);
            }
            return Some(found);
        }
    }
    if here.children.contains(first) {
        return within(modules, &join(module, first), rest, steps);
    }
    by_globs(modules, module, path, steps).or_else(|| Some(module.to_owned()))
}

/// Whether the path names the module itself and not an item in it.
fn is_module(modules: &Modules, module: &str, path: &[String], found: &str) -> bool {
    let last = found.rsplit("::").next().unwrap_or_default();
    let Some(name) = path.last() else {
        return false;
    };
    let is_item = modules.get(found).is_some_and(|m| m.items.contains(name));
    name == last && !is_item
        || name == "super"
        || name == "self"
        || path == ["crate"] && module != found
}

fn by_globs(modules: &Modules, module: &str, path: &[String], steps: usize) -> Option<String> {
    let first = path.first()?;
    let here = modules.get(module)?;
    here.globs.iter().find_map(|glob| {
        let taken = from(modules, module, glob, steps)?;
        let there = modules.get(&taken)?;
        let has = there.items.contains(first)
            || there.names.contains_key(first)
            || there.children.contains(first);
        has.then(|| within(modules, &taken, path, steps))?
    })
}
