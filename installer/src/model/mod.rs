//! Values that all other modules use: a change to a file, the user's options, and traces of other
//! tools.

pub mod change;
pub mod host_state;
pub mod package;
pub mod setup_options;
pub mod skipped;
pub mod toolkit_traces;
