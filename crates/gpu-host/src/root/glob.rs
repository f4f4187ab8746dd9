//! Shell patterns over a tree: `*`, `?` and `[a-z]` in any part of a path (glob(7)).

use std::path::{Component, Path, PathBuf};

use crate::root::Root;

/// The paths that match, in order of names. A path without a pattern gives itself if it exists.
pub fn expand(root: &Root, pattern: &Path) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::from("/")];
    for part in pattern.components() {
        let Component::Normal(part) = part else {
            continue;
        };
        let Some(text) = part.to_str().filter(|t| t.contains(['*', '?', '['])) else {
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

/// Whether a name fits a pattern. As the shell does, `*` leaves hidden names alone.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // Where to go on after the last `*` took one character more.
    let mut again: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            again = Some((p + 1, n));
            p += 1;
        } else if let Some(length) = one(&pattern[p..], name[n]) {
            p += length;
            n += 1;
        } else if let Some((after, taken)) = again {
            again = Some((after, taken + 1));
            (p, n) = (after, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// How much of the pattern that character uses up, if it fits its start.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '[' => match class(pattern, c) {
            Some((length, is_in)) => is_in.then_some(length),
            // Never closed: the bracket itself.
            None => (c == '[').then_some(1),
        },
        other => (*other == c).then_some(1),
    }
}

fn class(pattern: &[char], c: char) -> Option<(usize, bool)> {
    let negated = matches!(pattern.get(1), Some('!' | '^'));
    let start = if negated { 2 } else { 1 };
    let end = start + 1 + pattern.get(start + 1..)?.iter().position(|c| *c == ']')?;
    let inner = &pattern[start..end];
    let mut is_in = false;
    let mut at = 0;
    while at < inner.len() {
        if inner.get(at + 1) == Some(&'-') && at + 2 < inner.len() {
            is_in |= (inner[at]..=inner[at + 2]).contains(&c);
            at += 3;
        } else {
            is_in |= inner[at] == c;
            at += 1;
        }
    }
    Some((end + 1, is_in != negated))
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
            ("*", ".hidden", false),
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
