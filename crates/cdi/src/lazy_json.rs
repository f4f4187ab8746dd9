//! A JSON document that is parsed only where it is edited. An engine's config.json is long, mostly
//! lists of system calls, and every container start waits for its processing.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::Serialize;
use serde_json::value::RawValue;

use crate::Error;

/// A JSON value: its text, or its parts if something in it was edited. Everything else keeps its text
/// unchanged, including numbers and unknown keys.
#[derive(Clone, Debug)]
pub enum LazyJson<'a> {
    /// The value's text.
    Text(Cow<'a, str>),
    /// An object's members in their order. If a key occurs more than once, the last one counts.
    Object(Vec<(String, Self)>),
    /// A list's items.
    List(Vec<Self>),
}

impl<'a> LazyJson<'a> {
    /// Makes a document of a text, all of which must be one JSON value.
    pub fn parse(text: &'a [u8]) -> Result<Self, serde_json::Error> {
        let whole: &RawValue = serde_json::from_slice(text)?;
        Ok(Self::Text(whole.get().into()))
    }

    pub(crate) fn serialized(value: &impl Serialize) -> Result<Self, Error> {
        let text = serde_json::to_string(value).map_err(|_| Error::Config("what was made"))?;
        Ok(Self::Text(text.into()))
    }

    /// The value at these keys; `None` if it does not exist or has another type.
    pub fn get<T: for<'de> Deserialize<'de>>(&self, keys: &[&str]) -> Option<T> {
        let Some((key, rest)) = keys.split_first() else {
            return serde_json::from_str(&self.text()).ok();
        };
        match self {
            Self::Object(members) => {
                let member = members.iter().rfind(|(name, _)| name == key)?;
                member.1.get(rest)
            }
            Self::Text(text) => {
                let Members(members) = serde_json::from_str(text).ok()?;
                let member = members.into_iter().rfind(|(name, _)| name == key)?;
                LazyJson::Text(member.1.get().into()).get(rest)
            }
            Self::List(_) => None,
        }
    }

    /// The list at these keys, if there is one.
    pub fn list_at(&mut self, keys: &[&str]) -> Option<&mut Vec<Self>> {
        let Some((key, rest)) = keys.split_first() else {
            return self.open_list();
        };
        let members = self.open_object()?;
        members
            .iter_mut()
            .rfind(|(name, _)| name == key)?
            .1
            .list_at(rest)
    }

    /// The list at these keys. It is made if it does not exist.
    pub(crate) fn list(&mut self, keys: &[&str]) -> Result<&mut Vec<Self>, Error> {
        let at = self.entry(keys)?;
        if at.is_null() {
            *at = Self::List(Vec::new());
        }
        at.open_list().ok_or(Error::Config("a list"))
    }

    /// Sets the value at these keys. Objects on the way are made if they do not exist.
    pub(crate) fn set(&mut self, keys: &[&str], value: &impl Serialize) -> Result<(), Error> {
        *self.entry(keys)? = Self::serialized(value)?;
        Ok(())
    }

    fn entry(&mut self, keys: &[&str]) -> Result<&mut Self, Error> {
        let Some((key, rest)) = keys.split_first() else {
            return Ok(self);
        };
        if self.is_null() {
            *self = Self::Object(Vec::new());
        }
        let members = self.open_object().ok_or(Error::Config("an object"))?;
        let at = members.iter().rposition(|(name, _)| name == key);
        let at = at.unwrap_or_else(|| {
            members.push(((*key).to_owned(), Self::Text("null".into())));
            members.len() - 1
        });
        members[at].1.entry(rest)
    }

    fn is_null(&self) -> bool {
        matches!(self, Self::Text(text) if text == "null")
    }

    fn open_object(&mut self) -> Option<&mut Vec<(String, Self)>> {
        if let Self::Text(text) = self {
            let members = match text {
                Cow::Borrowed(text) => opened_object(text)?,
                Cow::Owned(text) => opened_object(text)?
                    .into_iter()
                    .map(|(name, part)| (name, part.owned()))
                    .collect(),
            };
            *self = Self::Object(members);
        }
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }

    fn open_list(&mut self) -> Option<&mut Vec<Self>> {
        if let Self::Text(text) = self {
            let items = match text {
                Cow::Borrowed(text) => opened_list(text)?,
                Cow::Owned(text) => opened_list(text)?
                    .into_iter()
                    .map(LazyJson::owned)
                    .collect(),
            };
            *self = Self::List(items);
        }
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// Copies borrowed text.
    fn owned<'b>(self) -> LazyJson<'b> {
        match self {
            Self::Text(text) => LazyJson::Text(text.into_owned().into()),
            Self::Object(members) => {
                let members = members.into_iter();
                LazyJson::Object(members.map(|(name, part)| (name, part.owned())).collect())
            }
            Self::List(items) => LazyJson::List(items.into_iter().map(LazyJson::owned).collect()),
        }
    }

    /// The document as JSON.
    pub fn text(&self) -> Cow<'_, str> {
        if let Self::Text(text) = self {
            return text.as_ref().into();
        }
        let mut text = String::with_capacity(self.length());
        self.write(&mut text);
        text.into()
    }

    /// The approximate length of the text.
    fn length(&self) -> usize {
        match self {
            Self::Text(text) => text.len() + 1,
            Self::Object(members) => {
                let members = members.iter();
                members
                    .map(|(name, part)| name.len() + 8 + part.length())
                    .sum::<usize>()
                    + 2
            }
            Self::List(items) => items.iter().map(Self::length).sum::<usize>() + 2,
        }
    }

    fn write(&self, to: &mut String) {
        match self {
            Self::Text(text) => to.push_str(text),
            Self::Object(members) => {
                to.push('{');
                for (n, (name, part)) in members.iter().enumerate() {
                    if n > 0 {
                        to.push(',');
                    }
                    // Adds quotes and escapes.
                    to.push_str(&serde_json::Value::from(name.as_str()).to_string());
                    to.push(':');
                    part.write(to);
                }
                to.push('}');
            }
            Self::List(items) => {
                to.push('[');
                for (n, item) in items.iter().enumerate() {
                    if n > 0 {
                        to.push(',');
                    }
                    item.write(to);
                }
                to.push(']');
            }
        }
    }
}

fn opened_object(text: &str) -> Option<Vec<(String, LazyJson<'_>)>> {
    let Members(members) = serde_json::from_str(text).ok()?;
    let mut parts = Vec::with_capacity(members.len());
    for (name, part) in members {
        parts.push((name, LazyJson::Text(part.get().into())));
    }
    Some(parts)
}

fn opened_list(text: &str) -> Option<Vec<LazyJson<'_>>> {
    let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
    let items = items.into_iter().map(RawValue::get);
    Some(items.map(|item| LazyJson::Text(item.into())).collect())
}

/// An object's members in their order, their values as text.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_are_not_edited_keep_their_text() {
        let text = r#"{ "a" : 1.50e3, "big": 12345678901234567890123, "l": [ {"x": 1}, 2 ],
            "k\u0065y": {"n": null}, "o": {}}"#;
        let mut document = LazyJson::parse(text.as_bytes()).unwrap();
        assert_eq!(document.text(), text);
        document
            .list(&["l"])
            .unwrap()
            .push(LazyJson::serialized(&"é\n").unwrap());
        document.set(&["key", "n"], &true).unwrap();
        document.list(&["o", "new"]).unwrap();
        assert_eq!(
            document.text(),
            r#"{"a":1.50e3,"big":12345678901234567890123,"l":[{"x": 1},2,"é\n"],"key":{"n":true},"o":{"new":[]}}"#
        );
    }

    #[test]
    fn the_last_of_several_equal_keys_counts() {
        let mut document = LazyJson::parse(br#"{"a": 1, "a": {"b": [2]}}"#).unwrap();
        assert_eq!(document.get::<Vec<u8>>(&["a", "b"]), Some(vec![2]));
        document.list(&["a", "b"]).unwrap().clear();
        assert_eq!(document.text(), r#"{"a":1,"a":{"b":[]}}"#);
        assert_eq!(document.get::<Vec<u8>>(&["a", "b"]), Some(vec![]));
    }

    #[test]
    fn another_type_is_an_error_and_reading_changes_nothing() {
        let text = br#"{"a": 1, "b": [], "c": null}"#;
        let mut document = LazyJson::parse(text).unwrap();
        assert!(document.list(&["a"]).is_err() && document.list(&["b", "x"]).is_err());
        for missing in [&["c"][..], &["d"], &["a", "x"], &["b", "x"]] {
            assert!(document.list_at(missing).is_none());
        }
        assert_eq!(document.get::<u64>(&["a"]), Some(1));
        assert_eq!(document.get::<u64>(&["c", "x"]), None);
        assert_eq!(document.text(), r#"{"a":1,"b":[],"c":null}"#);
        for broken in [&b"{"[..], b"", b"{} {}", b"\xff", br#"{"a": tru}"#] {
            assert!(LazyJson::parse(broken).is_err());
        }
    }
}
