//! What is to be set up on this host, and what of it is: the plans of install and undo, and all that they look at.

pub mod dev_char;
pub mod history;
pub mod other_toolkits;
pub mod undo_planner;
