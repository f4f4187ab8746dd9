//! What is to be set up on this host, and what of it is: the plans of install and undo, and all that they look at.

pub mod dev_char;
pub mod device_nodes;
pub mod engine_selection;
pub mod gpu_files;
pub mod history;
pub mod install_planner;
pub mod other_toolkits;
pub mod status;
pub mod undo_planner;
