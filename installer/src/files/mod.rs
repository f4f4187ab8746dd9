//! Files as the kernel has them: where a path really leads, what else a file has than its text, and a write that leaves
//! the old or the new one whole.

pub mod atomic_write;
pub mod attributes;
pub mod resolved_path;
pub mod user_output;
