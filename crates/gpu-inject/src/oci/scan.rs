//! Scans a config.json for the parts that matter here, in one pass over its text.
//!
//! The private types have the names that the OCI specification gives to these parts, with `Scanned`
//! before them: `ScannedProcess`, `ScannedMount`, `ScannedRoot`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

/// The parts of a config.json that can request GPUs. Everything else is skipped, and strings are
/// borrowed from the text. This is the fast path for the many containers that request no GPUs.
#[derive(Debug, Default, Deserialize)]
pub struct Scan<'a> {
    #[serde(borrow, default)]
    pub(super) process: Option<ScannedProcess<'a>>,
    #[serde(borrow, default)]
    pub(super) annotations: Option<BTreeMap<ScannedText<'a>, ScannedText<'a>>>,
    #[serde(borrow, default)]
    pub(super) mounts: Option<Vec<ScannedMount<'a>>>,
    #[serde(borrow, default)]
    pub(super) root: Option<ScannedRoot<'a>>,
    #[serde(borrow, default)]
    pub(super) linux: Option<Linux<'a>>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct ScannedProcess<'a> {
    #[serde(borrow, default)]
    pub(super) env: Option<Vec<ScannedText<'a>>>,
    #[serde(borrow, default)]
    pub(super) capabilities: Option<ScannedCapabilities<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ScannedCapabilities<'a> {
    #[serde(borrow, default)]
    pub(super) bounding: Option<Vec<ScannedText<'a>>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ScannedMount<'a> {
    #[serde(borrow, default)]
    pub(super) source: Option<ScannedText<'a>>,
    #[serde(borrow, default)]
    pub(super) destination: Option<ScannedText<'a>>,
    #[serde(borrow, default, rename = "type")]
    pub(super) kind: Option<ScannedText<'a>>,
    #[serde(borrow, default)]
    pub(super) options: Option<Vec<ScannedText<'a>>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ScannedRoot<'a> {
    #[serde(borrow, default)]
    pub(super) path: Option<ScannedText<'a>>,
    #[serde(default)]
    pub(super) readonly: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Linux<'a> {
    #[serde(borrow, default)]
    pub(super) namespaces: Option<Vec<ScannedNamespace<'a>>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ScannedNamespace<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(super) kind: Option<ScannedText<'a>>,
}

/// A string, borrowed from the text unless it has escapes.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) struct ScannedText<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl<'a> Scan<'a> {
    /// Scans the text. `None` if it is not JSON, has a part twice, or has a part of another type
    /// than the OCI specification says; use `ContainerView::new` for such a text.
    pub fn read(text: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }
}
