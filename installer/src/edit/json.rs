//! Edits JSON in place: indentation, order, numbers and line ends stay as they are.
//!
//! dockerd reads strict JSON (moby `daemon/config`). It refuses a file with comments, trailing
//! commas or a byte order mark, so such a file is refused here too and not changed.

use std::collections::HashSet;

use jsonc_parser::cst::{CstInputValue, CstNode, CstObject, CstRootNode};
use serde_json::Value;

use crate::edit::json_insert::STRICT;
use crate::edit::{json_insert, three_way};
use crate::error::edit_error::{EditError, dotted};

/// Parses strict JSON with an object at the top level and no duplicate keys.
pub fn parse(text: &str) -> Result<Value, EditError> {
    if text.starts_with('\u{feff}') {
        return Err(EditError::syntax("starts with a byte order mark (U+FEFF)"));
    }
    let value: Value = serde_json::from_str(text).map_err(EditError::syntax)?;
    if !value.is_object() {
        return Err(EditError::syntax("not an object at the top"));
    }
    ensure_no_duplicates(&tree(text)?)?;
    Ok(value)
}

fn tree(text: &str) -> Result<CstRootNode, EditError> {
    CstRootNode::parse(text, &STRICT).map_err(EditError::syntax)
}

fn ensure_no_duplicates(root: &CstRootNode) -> Result<(), EditError> {
    let mut todo: Vec<CstNode> = root.children();
    while let Some(node) = todo.pop() {
        if let Some(object) = node.as_object() {
            let mut names = HashSet::new();
            for property in object.properties() {
                let name = property.decoded_name().unwrap_or_default();
                if !names.insert(name.clone()) {
                    return Err(EditError::Duplicate(name));
                }
            }
        }
        todo.extend(node.children());
    }
    Ok(())
}

/// Sets the values at the key paths; an empty text counts as `{}`.
pub fn set(text: &str, values: &[(Vec<String>, Value)]) -> Result<String, EditError> {
    let blank = text.trim().is_empty();
    let text = if blank { "{}\n" } else { text };
    let mut wanted = parse(text)?;
    let mut made = text.to_owned();
    for (keys, value) in values.iter().filter(|(k, _)| !k.is_empty()) {
        if get(&wanted, keys) == Some(value) {
            continue;
        }
        made = json_insert::set(&made, keys, value)?;
        put(&mut wanted, keys, value.clone());
    }
    checked(made, &wanted)
}

/// Checks that the editor made the requested change and no other.
fn checked(made: String, wanted: &Value) -> Result<String, EditError> {
    match serde_json::from_str::<Value>(&made) {
        Ok(result) if result == *wanted => Ok(made),
        _ => Err(EditError::Inexact),
    }
}

fn put(value: &mut Value, keys: &[String], new: Value) {
    let Some((first, rest)) = keys.split_first() else {
        *value = new;
        return;
    };
    if let Some(object) = value.as_object_mut() {
        let entry = object
            .entry(first.as_str())
            .or_insert_with(|| Value::Object(serde_json::Map::new()));
        put(entry, rest, new);
    }
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(b) => CstInputValue::Bool(*b),
        Value::Number(n) => CstInputValue::Number(n.to_string()),
        Value::String(s) => CstInputValue::String(s.clone()),
        Value::Array(list) => CstInputValue::Array(list.iter().map(input).collect()),
        Value::Object(map) => {
            CstInputValue::Object(map.iter().map(|(k, v)| (k.clone(), input(v))).collect())
        }
    }
}

/// The value at a key path.
pub fn get<'a>(value: &'a Value, keys: &[String]) -> Option<&'a Value> {
    keys.iter().try_fold(value, |at, key| at.get(key))
}

/// The text without these keys, and without objects that have nothing else.
pub fn without(text: &str, keys: &[Vec<String>]) -> Result<String, EditError> {
    remove(text, None, text, keys)
}

pub(super) fn remove(
    current: &str,
    text: Option<&str>,
    after_text: &str,
    keys: &[Vec<String>],
) -> Result<String, EditError> {
    let before = match text.filter(|b| !b.trim().is_empty()) {
        Some(text) => parse(text)?,
        None => Value::Object(serde_json::Map::new()),
    };
    let (after, mut wanted) = (parse(after_text)?, parse(current)?);
    let root = tree(current)?;
    let top = root.object_value_or_set();
    for path in keys {
        let Some(value) = get(&wanted, path) else {
            continue;
        };
        if get(&before, path) == Some(value) {
            // The old value has been restored already.
            continue;
        }
        if get(&after, path) != Some(value) {
            return Err(EditError::Conflict(dotted(path)));
        }
        if let Some(old) = get(&before, path) {
            let (old, Some((last, parents))) = (old.clone(), path.split_last()) else {
                continue;
            };
            if let Some(property) = object_at(&top, parents).and_then(|o| o.get(last)) {
                property.set_value(input(&old));
            }
            put(&mut wanted, path, old);
            continue;
        }
        // Remove our values, then every object that exists only because of us and is now empty.
        for depth in (1..=path.len()).rev() {
            let part = &path[..depth];
            let is_empty = get(&wanted, part)
                .and_then(Value::as_object)
                .is_some_and(serde_json::Map::is_empty);
            if depth < path.len() && (!is_empty || get(&before, part).is_some()) {
                break;
            }
            let Some((last, parents)) = part.split_last() else {
                break;
            };
            if let Some(property) = object_at(&top, parents).and_then(|o| o.get(last)) {
                property.remove();
            }
            take(&mut wanted, part);
        }
    }
    // Restore the text to the byte if possible, or else keep the layout that the editor produces.
    if let Some(merged) = text.and_then(|before| three_way::reverse(before, after_text, current))
        && let Ok(merged) = checked(merged, &wanted)
    {
        return Ok(merged);
    }
    checked(root.to_string(), &wanted)
}

fn object_at(top: &CstObject, keys: &[String]) -> Option<CstObject> {
    keys.iter()
        .try_fold(top.clone(), |at, key| at.get(key)?.object_value())
}

fn take(value: &mut Value, keys: &[String]) {
    if let Some((last, parents)) = keys.split_last() {
        let parent = parents.iter().try_fold(value, |at, key| at.get_mut(key));
        if let Some(object) = parent.and_then(Value::as_object_mut) {
            object.shift_remove(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn path(text: &str) -> Vec<String> {
        text.split('.').map(str::to_owned).collect()
    }

    fn ours() -> Vec<(Vec<String>, Value)> {
        vec![
            (path("features.cdi"), json!(true)),
            (
                path("runtimes.nvidia"),
                json!({"path": "/usr/bin/gpu-container-runtime"}),
            ),
        ]
    }

    fn keys() -> Vec<Vec<String>> {
        ours().into_iter().map(|(k, _)| k).collect()
    }

    #[test]
    fn only_the_given_keys_change() {
        let text = "{\n\t\"big\": 12345678901234567890,\n\t\"log-opts\": {\"a\":   \"b\"},\n\t\"f\": 1.50\n}\n";
        let made = set(text, &ours()).unwrap();
        for kept in [
            "\t\"big\": 12345678901234567890,",
            "\"log-opts\": {\"a\":   \"b\"}",
            "1.50",
            "\n\t\"runtimes\"",
        ] {
            assert!(made.contains(kept), "{kept} in {made}");
        }
        assert!(made.starts_with("{\n\t\"big\"") && made.ends_with("}\n"));
    }

    #[test]
    fn json_that_dockerd_refuses_is_refused() {
        for bad in [
            "{",
            "[]",
            "3",
            "{\"a\":1,}",
            "{\"a\":1} x",
            "// c\n{}",
            "\u{feff}{}",
            "{a:1}",
            "{'a':1}",
            "{\"a\" \"b\"}",
        ] {
            assert!(
                matches!(set(bad, &ours()), Err(EditError::Syntax(_))),
                "{bad}"
            );
        }
        assert_eq!(
            set("{\"a\":{\"x\":1,\"x\":2}}", &ours()),
            Err(EditError::Duplicate("x".into()))
        );
        assert_eq!(
            set("{\"runtimes\":3}", &ours()),
            Err(EditError::NotATable("runtimes".into()))
        );
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(set(&format!("{{\"a\":{deep}}}"), &ours()).is_err());
    }

    #[test]
    fn an_empty_file_becomes_one_with_our_keys() {
        let made = set("", &ours()).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&made).unwrap()["features"],
            json!({"cdi": true})
        );
    }

    #[test]
    fn undo_keeps_what_the_user_changed_since() {
        let before = "{\n  \"runtimes\": {\"mine\": {\"path\": \"/m\"}}\n}\n";
        let after = set(before, &ours()).unwrap();
        let current = after.replacen("{\n", "{\n  \"debug\": true,\n", 1);
        let undone = remove(&current, Some(before), &after, &keys()).unwrap();
        let value: Value = serde_json::from_str(&undone).unwrap();
        assert_eq!(
            value,
            json!({"debug": true, "runtimes": {"mine": {"path": "/m"}}})
        );
        let conflict = after.replace("gpu-container-runtime", "other");
        assert_eq!(
            remove(&conflict, Some(before), &after, &keys()),
            Err(EditError::Conflict("runtimes.nvidia".into()))
        );
    }

    #[test]
    fn a_file_of_five_megabytes_is_edited_quickly() {
        let filler: String = (0..65_000)
            .map(|n| format!("  \"key-{n}\": \"{}\",\n", "x".repeat(64)))
            .collect();
        let text = format!("{{\n{filler}  \"last\": 1\n}}\n");
        assert!(text.len() > 5_000_000);
        let made = set(&text, &ours()).unwrap();
        assert!(made.starts_with(&text[..text.len() - 4]));
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            "[ -~]{0,8}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{1,4}", inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn set_and_undo_give_the_same_values(map in prop::collection::btree_map("[a-z]{1,6}", json_value(), 0..5), pretty: bool) {
            let value = Value::Object(map.into_iter().collect());
            let before = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            if let Ok(after) = set(&before, &ours()) {
                let undone = remove(&after, Some(&before), &after, &keys()).unwrap();
                prop_assert_eq!(serde_json::from_str::<Value>(&undone).unwrap(), value);
            }
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = set(&text, &ours());
            let _ = set(&format!("{{{text}}}"), &ours());
        }
    }
}
