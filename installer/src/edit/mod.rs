//! Editors that change the keys asked for and no other byte.

pub mod block;
pub mod error;
pub mod json;
mod json_insert;
pub mod revert;
mod three_way;
pub mod toml;
