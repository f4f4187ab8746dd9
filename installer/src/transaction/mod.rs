//! A run over the host's files: all of a plan is done, or nothing of it.

pub mod change_io;
pub mod preflight;
