//! Editors that change only the keys asked for and leave every other byte as it is.

pub mod block;
pub mod diff;
pub mod json;
mod json_insert;
pub mod meaning;
pub mod revert;
mod three_way;
pub mod toml;
