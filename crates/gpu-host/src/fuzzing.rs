//! Entry points for testenv/fuzz to parsers that are otherwise private to this crate.

/// Runs the ELF reader. True if the bytes are an ELF file.
pub fn elf(bytes: &[u8]) -> bool {
    crate::formats::elf::read(std::io::Cursor::new(bytes)).is_some()
}
