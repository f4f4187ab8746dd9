//! The driver of this host: its version and the files of its user space.

pub(crate) mod files;
mod firmware;
pub(crate) mod reach;
pub(crate) mod user_space;
pub(crate) mod version;
