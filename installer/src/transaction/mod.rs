//! A run over the host's files: all of a plan is done, or nothing of it.

pub mod activate;
pub mod change_io;
pub mod context;
pub mod journal;
pub mod lock;
pub mod plan;
pub mod preflight;
pub mod receipt;
pub mod regenerated;
pub mod rollback;
pub mod run;
pub mod state_file;
pub mod stored;
