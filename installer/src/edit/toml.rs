//! TOML, edited in place: comments, order and spacing stay as they are.

use toml_edit::{DocumentMut, Item, Table, TableLike, Value};

use super::{EditError, dotted};

/// Reads a document.
pub fn parse(text: &str) -> Result<DocumentMut, EditError> {
    text.parse()
        .map_err(|e: toml_edit::TomlError| EditError::Syntax(e.to_string().trim().to_owned()))
}

/// The item at a key path.
pub fn get<'a>(document: &'a DocumentMut, keys: &[&str]) -> Option<&'a Item> {
    keys.iter()
        .try_fold(document.as_item(), |at, key| at.get(key))
}

/// Sets the values at the key paths, making the tables on the way.
pub fn set(text: &str, values: &[(Vec<String>, Value)]) -> Result<String, EditError> {
    let mut document = parse(text)?;
    for (keys, value) in values {
        let Some((last, parents)) = keys.split_last() else {
            continue;
        };
        let mut at: &mut dyn TableLike = document.as_table_mut();
        for (n, key) in parents.iter().enumerate() {
            let made = || {
                let mut table = Table::new();
                // No header of its own: only the innermost table gets one.
                table.set_implicit(true);
                Item::Table(table)
            };
            at = at
                .entry(key)
                .or_insert_with(made)
                .as_table_like_mut()
                .ok_or_else(|| EditError::NotATable(dotted(&keys[..=n])))?;
        }
        match at.get_mut(last).and_then(Item::as_value_mut) {
            // The comment behind a value stays.
            Some(old) => {
                let decor = old.decor().clone();
                *old = value.clone();
                *old.decor_mut() = decor;
            }
            None => drop(at.insert(last, Item::Value(value.clone()))),
        }
    }
    Ok(document.to_string())
}

pub(super) fn remove(
    current: &str,
    before: Option<&str>,
    after: &str,
    keys: &[Vec<String>],
) -> Result<String, EditError> {
    let before = parse(before.unwrap_or_default())?;
    let after = parse(after)?;
    let mut document = parse(current)?;
    for path in keys {
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        let text = |d: &DocumentMut| get(d, &names).map(|i| i.to_string().trim().to_owned());
        let Some(found) = text(&document) else {
            continue;
        };
        if text(&after).as_ref() != Some(&found) {
            return Err(EditError::Conflict(dotted(path)));
        }
        let old = get(&before, &names).cloned();
        for depth in (1..=names.len()).rev() {
            let part = &names[..depth];
            let is_empty = get(&document, part)
                .and_then(Item::as_table_like)
                .is_some_and(TableLike::is_empty);
            if depth < names.len() && (!is_empty || get(&before, part).is_some()) {
                break;
            }
            let Some((last, parents)) = part.split_last() else {
                break;
            };
            let parent = parents
                .iter()
                .try_fold(document.as_item_mut(), |at, key| at.get_mut(key));
            let Some(table) = parent.and_then(Item::as_table_like_mut) else {
                break;
            };
            match &old {
                Some(old) => {
                    table.insert(last, old.clone());
                    break;
                }
                None => drop(table.remove(last)),
            }
        }
    }
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ours() -> Vec<(Vec<String>, Value)> {
        let at = |key: &str| {
            [
                "plugins",
                "io.containerd.grpc.v1.cri",
                "containerd",
                "runtimes",
                "nvidia",
                key,
            ]
            .map(str::to_owned)
            .to_vec()
        };
        let mut options = at("options");
        options.push("BinaryName".into());
        vec![
            (at("runtime_type"), "io.containerd.runc.v2".into()),
            (options, "/usr/bin/gpu-container-runtime".into()),
        ]
    }

    fn keys() -> Vec<Vec<String>> {
        ours().into_iter().map(|(k, _)| k).collect()
    }

    const TEXT: &str = "# mine\nversion = 2 # two\n\n[plugins]\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    [plugins.\"io.containerd.grpc.v1.cri\".cni]\n      bin_dir = \"/usr/lib/cni\"   # here\n\n[other]\nx = 12345678901234567\n";

    #[test]
    fn every_line_of_the_user_stays() {
        let made = set(TEXT, &ours()).unwrap();
        for line in TEXT.lines() {
            assert!(made.lines().any(|l| l == line), "{line:?} in\n{made}");
        }
        assert!(
            made.contains(
                "runtimes.nvidia.options]\nBinaryName = \"/usr/bin/gpu-container-runtime\""
            ),
            "{made}"
        );
        assert!(parse(&made).is_ok());
    }

    #[test]
    fn undo_keeps_what_the_user_changed_since() {
        let after = set(TEXT, &ours()).unwrap();
        let current = after.replace("x = 12345678901234567", "x = 3 # changed");
        let undone = remove(&current, Some(TEXT), &after, &keys()).unwrap();
        assert_eq!(
            undone,
            TEXT.replace("x = 12345678901234567", "x = 3 # changed")
        );
        let conflict = after.replace("gpu-container-runtime", "other");
        assert!(matches!(
            remove(&conflict, Some(TEXT), &after, &keys()),
            Err(EditError::Conflict(_))
        ));
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        assert!(
            matches!(set("plugins = 3", &ours()), Err(EditError::NotATable(k)) if k == "plugins")
        );
        assert!(matches!(
            set("version = ", &ours()),
            Err(EditError::Syntax(_))
        ));
        assert!(matches!(
            set("a = 1\na = 2", &ours()),
            Err(EditError::Syntax(_))
        ));
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = set(&text, &ours());
        }

        #[test]
        fn set_and_undo_give_the_same_text(keys_of_user in prop::collection::btree_map("[a-z]{1,6}", 0i64..100, 0..5)) {
            let before: String = keys_of_user.iter().map(|(k, v)| format!("{k} = {v} # c\n")).collect();
            let after = set(&before, &ours()).unwrap();
            let undone = remove(&format!("{after}\n"), Some(&before), &after, &keys()).unwrap();
            prop_assert_eq!(undone.trim_end(), before.trim_end());
        }
    }
}
