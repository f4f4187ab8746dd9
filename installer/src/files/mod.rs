//! Low-level work with files: resolving paths, attributes, and atomic writes.

pub mod atomic_write;
pub mod attributes;
pub mod resolved_path;
pub mod user_output;
