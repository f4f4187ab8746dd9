//! Values that all others speak of: a change to a file, and what the user wants.

pub mod change;
pub mod setup_options;
