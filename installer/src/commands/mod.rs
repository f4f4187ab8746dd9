//! The program's commands, with one file for each.

pub mod ask_nvml;
pub mod bundle;
pub mod cdi;
mod cdi_generate;
mod cdi_transform;
pub mod config;
pub mod detect;
pub mod doctor;
pub mod install;
pub mod recover;
pub mod references;
pub mod session;
pub mod status;
pub mod system;
pub mod undo;
pub mod verify;
mod without_root;
