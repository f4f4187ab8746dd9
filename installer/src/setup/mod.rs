//! Plans what install and undo do on this host, and reports what is already set up.

pub mod default_runtime;
pub mod dev_char;
pub mod device_nodes;
pub mod driver_answer;
pub mod due;
pub mod engine_selection;
pub mod gpu_files;
pub mod history;
pub mod host_state;
pub mod install_planner;
pub mod leftovers;
pub mod made_anew;
mod moved_edits;
pub mod other_toolkits;
pub mod references;
pub mod status;
pub mod undo_planner;
