//! Readers of file formats that other projects define: ELF and the loader cache.

pub(crate) mod elf;
pub mod ldcache;
