//! Changes the host's files as one transaction: either every change of a plan is made, or none is.

pub mod activate;
pub mod change_io;
mod checked_before;
pub mod ended;
pub mod interrupted;
pub mod journal;
pub mod lock;
pub mod plan;
pub mod preflight;
pub mod receipt;
pub mod refresh_due;
pub mod regenerated;
pub mod rollback;
pub mod run;
pub mod run_options;
pub mod started_restart;
pub mod state_file;
pub mod states;
pub mod steps;
pub mod still_written;
pub mod stored;
mod unread;
pub mod verification;
