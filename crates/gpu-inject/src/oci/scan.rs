//! The parts of a config.json that matter here, found by one pass over its text.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

/// Those parts by one pass over the text: the rest is skipped, not kept, and what is kept
/// stays in the text. For the many containers that ask for nothing.
#[derive(Debug, Default, Deserialize)]
pub struct Scan<'a> {
    #[serde(borrow, default)]
    pub(super) process: Option<Process<'a>>,
    #[serde(borrow, default)]
    pub(super) annotations: Option<BTreeMap<Text<'a>, Text<'a>>>,
    #[serde(borrow, default)]
    pub(super) mounts: Option<Vec<Mount<'a>>>,
    #[serde(borrow, default)]
    pub(super) root: Option<Root<'a>>,
    #[serde(borrow, default)]
    pub(super) linux: Option<Linux<'a>>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Process<'a> {
    #[serde(borrow, default)]
    pub(super) env: Option<Vec<Text<'a>>>,
    #[serde(borrow, default)]
    pub(super) capabilities: Option<Capabilities<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Capabilities<'a> {
    #[serde(borrow, default)]
    pub(super) bounding: Option<Vec<Text<'a>>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Mount<'a> {
    #[serde(borrow, default)]
    pub(super) source: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) destination: Option<Text<'a>>,
    #[serde(borrow, default, rename = "type")]
    pub(super) kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) options: Option<Vec<Text<'a>>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Root<'a> {
    #[serde(borrow, default)]
    pub(super) path: Option<Text<'a>>,
    #[serde(default)]
    pub(super) readonly: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Linux<'a> {
    #[serde(borrow, default)]
    pub(super) namespaces: Option<Vec<Namespace<'a>>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Namespace<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(super) kind: Option<Text<'a>>,
}

/// A string where the text has it, or its own where it has escapes.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl<'a> Scan<'a> {
    /// `None` where the text is no JSON, says a part twice or gives one another type than the
    /// OCI specification does: such a text is for `ContainerView::new`.
    pub fn read(text: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }
}
