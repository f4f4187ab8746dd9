//! Readers of file formats that others define.

pub(crate) mod elf;
pub mod ldcache;
