//! Shell patterns over a tree: `*`, `?`, `[a-z]` and `{a,b}` in any part of a path (glob(7)).

use std::path::{Component, Path, PathBuf};

use crate::root::Root;

/// The paths that match, in order of names. A path without a pattern gives itself if it exists.
pub fn expand(root: &Root, pattern: &Path) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::from("/")];
    for part in pattern.components() {
        let Component::Normal(part) = part else {
            continue;
        };
        let Some(text) = part.to_str().filter(|t| is_pattern(t)) else {
            for path in &mut paths {
                path.push(part);
            }
            continue;
        };
        paths = paths
            .iter()
            .flat_map(|dir| {
                let names = root.read_dir(dir).unwrap_or_default();
                names
                    .into_iter()
                    .filter(|name| name.to_str().is_some_and(|n| fits(text, n)))
                    .map(|name| dir.join(name))
                    .collect::<Vec<_>>()
            })
            .collect();
    }
    // A dangling link matches too; a caller that needs its target gets the error there.
    paths.retain(|path| root.symlink_metadata(path).is_ok());
    paths
}

/// Whether a component of a path is a pattern.
pub fn is_pattern(part: &str) -> bool {
    part.contains(['*', '?', '[', '{'])
}

/// Whether a name matches a pattern. As in a shell, `*` does not match hidden names, and text without special
/// characters matches only itself.
pub fn fits(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    // A leading `!` means "all but" to fast-glob, but a shell takes it literally.
    if pattern.starts_with('!') || fast_glob::validate(pattern).is_err() {
        return pattern == name;
    }
    fast_glob::glob_match(pattern, name)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_match_as_in_a_shell() {
        for (pattern, name, is_fit) in [
            ("a", "a", true),
            ("a*", "a", true),
            ("*_nvidia*.json", "15_nvidia_gbm.json", true),
            ("*_nvidia*.json", "50_mesa.json", false),
            ("*a*b", "xaxab", true),
            ("card[0-9]", "card1", true),
            ("card[!0-9]", "card1", false),
            ("card?", "card12", false),
            ("card[^0-9]", "cardx", true),
            ("*", ".hidden", false),
            (".h*", ".hidden", true),
            ("lib*.{so,a}", "libx.a", true),
            ("!a", "!a", true),
            ("!a", "b", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("[", "[", true),
            ("[a", "a", false),
            ("", "", true),
        ] {
            assert_eq!(fits(pattern, name), is_fit, "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_match_in_any_part_of_a_path() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["a1/x.so", "a2/x.so", "b/x.so", "a2/y.so"] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let root = Root::open(dir.path()).unwrap();
        let expanded = |pattern: &str| expand(&root, Path::new(pattern));
        assert_eq!(
            expanded("/a*/x.so"),
            [Path::new("/a1/x.so"), Path::new("/a2/x.so")]
        );
        assert_eq!(expanded("/b/x.so"), [Path::new("/b/x.so")]);
        assert!(expanded("/c/*").is_empty() && expanded("/b/z").is_empty());
    }

    proptest! {
        #[test]
        fn no_pattern_panics_and_a_star_fits_all(pattern in "[a\\[\\]*?!^-]{0,12}", name in "[a-c\\[-]{1,12}") {
            let _ = fits(&pattern, &name);
            prop_assert!(fits("*", &name));
            let escaped = name.replace('[', "?");
            prop_assert!(fits(&escaped, &name));
        }
    }
}
