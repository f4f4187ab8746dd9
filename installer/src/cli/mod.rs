//! The command line: its words, its manual pages, and NVIDIA's words for the same.

pub mod args;
mod invocation;
pub mod man_pages;
pub mod nvidia_ctk;
