//! The meaning of a TOML value, apart from its form: `'x'` and `"x"`, layout, the order of keys, and inline tables or
//! tables with headers mean the same. Programs rewrite users' files in their own style (containerd's `config dump`
//! and `config migrate`, nodeadm).

use std::collections::BTreeMap;

use toml_edit::{DocumentMut, Item, Value};

/// The meaning of an item. For JSON, `serde_json::Value` serves this purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TomlMeaning {
    /// A table, in any form.
    Table(BTreeMap<String, TomlMeaning>),
    /// An array, in any form.
    List(Vec<TomlMeaning>),
    /// Text.
    Text(String),
    /// A boolean.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A number, compared by its bits, so that NaN equals itself.
    Float(u64),
    /// A date, a time, or both.
    Date(String),
    /// Nothing.
    Nothing,
}

impl TomlMeaning {
    /// The meaning of an item.
    pub fn of(item: &Item) -> Self {
        if let Some(table) = item.as_table_like() {
            let members = table.iter().map(|(k, item)| (k.to_owned(), Self::of(item)));
            return Self::Table(members.filter(|(_, m)| *m != Self::Nothing).collect());
        }
        match item {
            Item::None | Item::Table(_) => Self::Nothing,
            Item::Value(value) => Self::of_value(value),
            Item::ArrayOfTables(tables) => {
                let tables = tables.iter().map(|t| Self::of(&Item::Table(t.clone())));
                Self::List(tables.collect())
            }
        }
    }

    /// The meaning of a value.
    pub fn of_value(value: &Value) -> Self {
        match value {
            Value::String(text) => Self::Text(text.value().clone()),
            Value::Integer(number) => Self::Integer(*number.value()),
            Value::Float(number) => Self::Float(number.value().to_bits()),
            Value::Boolean(truth) => Self::Boolean(*truth.value()),
            Value::Datetime(date) => Self::Date(date.value().to_string()),
            Value::Array(list) => Self::List(list.iter().map(Self::of_value).collect()),
            Value::InlineTable(_) => Self::of(&Item::Value(value.clone())),
        }
    }

    /// The meaning of a whole text; `None` if it is not TOML.
    pub fn of_text(text: &str) -> Option<Self> {
        Some(Self::of(text.parse::<DocumentMut>().ok()?.as_item()))
    }

    /// What is at a key path.
    pub fn get<K: AsRef<str>>(&self, keys: &[K]) -> Option<&Self> {
        keys.iter()
            .try_fold(self, |at, key| at.members()?.get(key.as_ref()))
    }

    /// The members of a table.
    pub fn members(&self) -> Option<&BTreeMap<String, Self>> {
        match self {
            Self::Table(members) => Some(members),
            _ => None,
        }
    }
}

/// Whether two items mean the same.
pub fn same(one: &Item, other: &Item) -> bool {
    TomlMeaning::of(one) == TomlMeaning::of(other)
}

/// Whether two values mean the same.
pub fn same_value(one: &Value, other: &Value) -> bool {
    TomlMeaning::of_value(one) == TomlMeaning::of_value(other)
}

/// Whether two texts are TOML and mean the same. Comments do not count.
pub fn same_text(one: &str, other: &str) -> bool {
    one == other
        || TomlMeaning::of_text(one).is_some_and(|one| Some(one) == TomlMeaning::of_text(other))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_way_of_writing_does_not_count() {
        let one = "a = \"x\\ty\"\nn = 0x10\nf = 1.0\n[t]\nb = true\nc = [1, 2]\n[[l]]\nk = 1\n[[l]]\nk = 2\n";
        for other in [
            "l = [{k = 1}, {k = 2}]\nt = {c = [\n  1, # one\n  2,\n], b = true}\nf = 1e0\nn = 16\na = 'x\ty' # mine\n",
            "t.c = [1,2]\nt.b = true\n'a' = \"\"\"\nx\ty\"\"\"\nn = 1_6\nf = 1.0\n[[l]]\n\"k\" = 1\n[[l]]\n'k' = 2\n",
        ] {
            assert!(same_text(one, other), "{other}");
        }
        for (one, other) in [
            ("a = 1", "a = 1.0"),
            ("a = 1", "a = '1'"),
            ("a = [1, 2]", "a = [2, 1]"),
            ("a = 1", "a = 1\nb = 2"),
            ("a = true", "a = \"true\""),
            ("a = 'x'", "a = 'x '"),
        ] {
            assert!(!same_text(one, other), "{one} {other}");
        }
        assert!(!same_text("= 1", "= 2"));
    }

    proptest! {
        /// A document rewritten by another program means the same, and a document with a changed value does not.
        #[test]
        fn another_writer_changes_nothing(members in prop::collection::btree_map("[a-z.' ]{1,6}", "[ -~äß🦀]{0,12}", 1..6)) {
            let table: toml::Table = members.iter().map(|(k, v)| (k.clone(), toml::Value::from(v.as_str()))).collect();
            let one = table.to_string();
            let literal = |v: &str| if v.contains('\'') { toml::Value::from(v).to_string() } else { format!("'{v}'") };
            let other: String = members.iter().rev().map(|(k, v)| format!("{} = {}\n", literal(k), literal(v))).collect();
            prop_assert!(same_text(&one, &other), "{one} {other}");
            let inline = |text: &str| format!("t = {text}");
            let braces: Vec<String> = other.lines().map(str::to_owned).collect();
            let nested: String = format!("[t]\n{one}");
            let braces = inline(&format!("{{ {} }}", braces.join(", ")));
            prop_assert!(same_text(&nested, &braces), "{nested} {braces}");
            let changed = format!("{one}added = 1\n");
            prop_assert!(members.contains_key("added") || !same_text(&one, &changed), "{changed}");
        }
    }
}
