//! Edits TOML in place: comments, order and spacing stay as they are.

use toml_edit::{DocumentMut, InlineTable, Item, Table, TableLike, Value};

use crate::edit::meaning::{same, same_value};
use crate::edit::three_way;
use crate::error::edit_error::{EditError, dotted};

/// Parses a document.
pub fn parse(text: &str) -> Result<DocumentMut, EditError> {
    text.parse()
        .map_err(|e: toml_edit::TomlError| EditError::syntax(e))
}

/// The item at a key path.
pub fn get<'a>(document: &'a DocumentMut, keys: &[&str]) -> Option<&'a Item> {
    keys.iter()
        .try_fold(document.as_item(), |at, key| at.get(key))
}

/// Sets the values at the key paths and creates the tables on the way.
pub fn set(text: &str, values: &[(Vec<String>, Value)]) -> Result<String, EditError> {
    let mut document = parse(text)?;
    let mut wanted = table(text)?;
    let plain = document.to_string();
    for (keys, value) in values {
        put(&mut wanted, keys, value)?;
        let Some((last, parents)) = keys.split_last() else {
            continue;
        };
        let mut at = document.as_item_mut();
        for (n, key) in parents.iter().enumerate() {
            let made = like(at);
            let table = at
                .as_table_like_mut()
                .ok_or_else(|| EditError::NotATable(dotted(&keys[..n])))?;
            at = table.entry(key).or_insert(made);
        }
        let table = at
            .as_table_like_mut()
            .ok_or_else(|| EditError::NotATable(dotted(parents)))?;
        match table.get_mut(last).and_then(Item::as_value_mut) {
            Some(old) if same_value(old, value) => {}
            // Keep the comment after the value.
            Some(old) => {
                let decor = old.decor().clone();
                *old = value.clone();
                *old.decor_mut() = decor;
            }
            None => drop(table.insert(last, Item::Value(value.clone()))),
        }
    }
    let edited = document.to_string();
    // The editor moves dotted keys of one table together, wherever the user has put them.
    if plain != text
        && let Some(merged) = three_way::reverse(&edited, &plain, text)
        && let Ok(merged) = checked(merged, &wanted)
    {
        return Ok(merged);
    }
    checked(edited, &wanted)
}

/// Parses a text with a parser other than the editor's.
fn table(text: &str) -> Result<toml::Table, EditError> {
    text.parse()
        .map_err(|e: toml::de::Error| EditError::syntax(e))
}

fn put(table: &mut toml::Table, keys: &[String], value: &Value) -> Result<(), EditError> {
    let Some((last, parents)) = keys.split_last() else {
        return Ok(());
    };
    let mut at = table;
    for (n, key) in parents.iter().enumerate() {
        let inner = at
            .entry(key)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        at = inner
            .as_table_mut()
            .ok_or_else(|| EditError::NotATable(dotted(&keys[..=n])))?;
    }
    let parsed = self::table(&format!("value = {value}"))?;
    at.extend(parsed.get("value").map(|v| (last.clone(), v.clone())));
    Ok(())
}

/// Checks that the editor made the requested change and no other.
fn checked(made: String, wanted: &toml::Table) -> Result<String, EditError> {
    match table(&made) {
        Ok(result) if result == *wanted => Ok(made),
        _ => Err(EditError::Inexact),
    }
}

/// An empty table to put into `parent`, written in the same style: inline, dotted or with headers.
fn like(parent: &Item) -> Item {
    if parent.is_inline_table() {
        return Item::Value(InlineTable::new().into());
    }
    let mut table = Table::new();
    // It gets no header of its own: only the innermost table gets one.
    table.set_implicit(true);
    table.set_dotted(parent.as_table().is_some_and(Table::is_dotted));
    Item::Table(table)
}

pub(super) fn remove(
    current: &str,
    text: Option<&str>,
    after_text: &str,
    keys: &[Vec<String>],
) -> Result<String, EditError> {
    let before = parse(text.unwrap_or_default())?;
    let after = parse(after_text)?;
    let mut document = parse(current)?;
    for path in keys {
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        let Some(item) = get(&document, &names) else {
            continue;
        };
        if get(&before, &names).is_some_and(|old| same(old, item)) {
            // The old value has been restored already.
            continue;
        }
        if !get(&after, &names).is_some_and(|ours| same(ours, item)) {
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
    // Restore the text to the byte if possible, or else as the editor produces it.
    let edited = document.to_string();
    let merged = text.and_then(|before| three_way::reverse(before, after_text, current));
    match merged {
        Some(merged) if table(&merged).ok() == Some(table(&edited)?) => Ok(merged),
        _ => Ok(edited),
    }
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
    fn every_line_of_the_user_is_kept() {
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
    fn undo_knows_our_values_however_they_are_written() {
        let after = set(TEXT, &ours()).unwrap();
        for quote in ['"', '\''] {
            let ours = format!("BinaryName =  {quote}/usr/bin/gpu-container-runtime{quote}");
            let lines = after.lines().map(|line| match line.split_once(" = ") {
                Some(("BinaryName", _)) => ours.clone(),
                _ => line.to_owned(),
            });
            let current: String = lines.map(|l| l + "\n").collect();
            let undone = remove(&current, Some(TEXT), &after, &keys()).unwrap();
            assert!(!undone.contains("nvidia"), "{undone}");
            let line = |l: &&str| !undone.lines().any(|u| u == *l);
            assert_eq!(TEXT.lines().find(line), None, "{undone}");
        }
    }

    #[test]
    fn a_value_in_the_way_is_named() {
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
