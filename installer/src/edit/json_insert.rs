//! Inserts a value into JSON text in the text's own layout: on its own line if the neighbouring
//! members have one, with the same indentation and line ends. No other byte is changed.

use jsonc_parser::ast::{Object, Value as Ast};
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value};

use crate::error::edit_error::{EditError, dotted};

/// The JSON that dockerd reads (moby `daemon/config`): none of the parser's extensions.
pub(super) const STRICT: ParseOptions = ParseOptions {
    allow_comments: false,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Sets the value at a key path and creates the objects on the way.
pub(super) fn set(text: &str, keys: &[String], value: &Value) -> Result<String, EditError> {
    let parsed =
        parse_to_ast(text, &CollectOptions::default(), &STRICT).map_err(EditError::syntax)?;
    let Some(Ast::Object(top)) = &parsed.value else {
        return Err(EditError::NotATable("the file".into()));
    };
    let layout = JsonLayout::of(text, top);
    let mut at = top;
    for (n, key) in keys.iter().enumerate() {
        let property = at.properties.iter().find(|p| p.name.as_str() == key);
        match property.map(|p| (p, &p.value)) {
            Some((member, old)) if n + 1 == keys.len() => {
                let range = old.range();
                let own = layout.has_own_line(member.range.start);
                let new = layout.value(value, layout.indentation(range.start), own);
                return Ok([&text[..range.start], &new, &text[range.end..]].concat());
            }
            Some((_, Ast::Object(inner))) => at = inner,
            Some(_) => return Err(EditError::NotATable(dotted(&keys[..=n]))),
            None => return Ok(layout.append(at, key, &nested(&keys[n + 1..], value))),
        }
    }
    Ok(text.to_owned())
}

fn nested(keys: &[String], value: &Value) -> Value {
    keys.iter().rev().fold(value.clone(), |inner, key| {
        Value::Object(Map::from_iter([(key.clone(), inner)]))
    })
}

struct JsonLayout<'a> {
    text: &'a str,
    /// Whether the members of the outermost object have lines of their own.
    lines: bool,
    newline: &'static str,
    /// One level of indentation.
    step: String,
}

impl<'a> JsonLayout<'a> {
    fn of(text: &'a str, top: &Object<'_>) -> Self {
        let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let mut layout = Self {
            text,
            lines: true,
            newline,
            step: "  ".into(),
        };
        if let Some(first) = top.properties.first() {
            layout.lines = layout.has_own_line(first.range.start);
            let (outer, inner) = (top.range.start, first.range.start);
            let step = layout
                .indentation(inner)
                .strip_prefix(layout.indentation(outer));
            if let Some(step) = step.filter(|s| layout.lines && !s.is_empty()) {
                layout.step = step.to_owned();
            }
        }
        layout
    }

    /// The text before a position on its line.
    fn before(&self, at: usize) -> &'a str {
        let start = self.text[..at].rfind('\n').map_or(0, |n| n + 1);
        &self.text[start..at]
    }

    fn has_own_line(&self, at: usize) -> bool {
        self.before(at).trim().is_empty() && self.text[..at].contains('\n')
    }

    /// The white space at the start of the line of a position.
    fn indentation(&self, at: usize) -> &'a str {
        let line = self.before(at);
        &line[..line.len() - line.trim_start().len()]
    }

    fn append(&self, object: &Object<'_>, key: &str, value: &Value) -> String {
        let quoted = Value::from(key).to_string();
        let (at, new) = if let Some(last) = object.properties.last() {
            let own = self.has_own_line(last.range.start);
            let indentation = self.indentation(last.range.start);
            let value = self.value(value, indentation, own);
            let between = if own {
                format!(",{}{indentation}", self.newline)
            } else {
                ", ".to_owned()
            };
            (last.range.end, format!("{between}{quoted}: {value}"))
        } else if self.lines {
            // An empty object: white space between the brackets is replaced, anything else stays
            // after the new member.
            let outer = self.indentation(object.range.start);
            let inner = format!("{outer}{}", self.step);
            let value = self.value(value, &inner, true);
            let newline = self.newline;
            let new = format!("{newline}{inner}{quoted}: {value}{newline}{outer}");
            let rest = &self.text[object.range.start + 1..object.range.end - 1];
            let space = rest.trim_matches([' ', '\t', '\r', '\n']).is_empty();
            if space {
                let (before, after) = (
                    &self.text[..=object.range.start],
                    &self.text[object.range.end - 1..],
                );
                return [before, &new, after].concat();
            }
            (object.range.start + 1, new)
        } else {
            let value = self.value(value, "", false);
            (object.range.start + 1, format!("{quoted}: {value}"))
        };
        [&self.text[..at], &new, &self.text[at..]].concat()
    }

    fn value(&self, value: &Value, indentation: &str, lines: bool) -> String {
        if !lines {
            return one_line(value);
        }
        let mut bytes = Vec::new();
        let format = PrettyFormatter::with_indent(self.step.as_bytes());
        let mut serializer = Serializer::with_formatter(&mut bytes, format);
        // This cannot fail: it writes to memory, and all keys of the value are strings.
        let _ = value.serialize(&mut serializer);
        let text = String::from_utf8_lossy(&bytes);
        text.replace('\n', &format!("{}{indentation}", self.newline))
    }
}

/// Formats a value on one line, with the spaces that people write: `{"path": "/x"}`.
fn one_line(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let members = map
                .iter()
                .map(|(k, v)| format!("{}: {}", Value::from(k.as_str()), one_line(v)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
        Value::Array(list) => {
            let items = list.iter().map(one_line);
            format!("[{}]", items.collect::<Vec<_>>().join(", "))
        }
        scalar => scalar.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn made(text: &str) -> String {
        let keys = ["runtimes", "nvidia"].map(str::to_owned);
        set(text, &keys, &json!({"path": "/x"})).unwrap()
    }

    #[test]
    fn inserted_keys_follow_the_layout_of_the_file() {
        for (text, wanted) in [
            (
                "{}\n",
                "{\n  \"runtimes\": {\n    \"nvidia\": {\n      \"path\": \"/x\"\n    }\n  }\n}\n",
            ),
            (
                "{\"a\":1}",
                "{\"a\":1, \"runtimes\": {\"nvidia\": {\"path\": \"/x\"}}}",
            ),
            (
                "{\r\n\t\"a\" : 1\r\n}",
                "{\r\n\t\"a\" : 1,\r\n\t\"runtimes\": {\r\n\t\t\"nvidia\": {\r\n\t\t\t\"path\": \"/x\"\r\n\t\t}\r\n\t}\r\n}",
            ),
            (
                "{\n    \"runtimes\": {\"r\": {}}\n}\n",
                "{\n    \"runtimes\": {\"r\": {}, \"nvidia\": {\"path\": \"/x\"}}\n}\n",
            ),
            (
                "{\n  \"runtimes\": {}\n}\n",
                "{\n  \"runtimes\": {\n    \"nvidia\": {\n      \"path\": \"/x\"\n    }\n  }\n}\n",
            ),
            (
                "{ \"runtimes\" :{ }}",
                "{ \"runtimes\" :{\"nvidia\": {\"path\": \"/x\"} }}",
            ),
            (
                "{\"runtimes\":{\"nvidia\":3}}",
                "{\"runtimes\":{\"nvidia\":{\"path\": \"/x\"}}}",
            ),
        ] {
            assert_eq!(made(text), wanted);
        }
    }
}
