//! Values that all others speak of: a change to a file, what the user wants, what is here of other tools.

pub mod change;
pub mod setup_options;
pub mod toolkit_traces;
