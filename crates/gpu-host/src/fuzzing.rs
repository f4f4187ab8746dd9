//! Ways in for testenv/fuzz, to parsers that are nobody else's business.

/// The ELF reader; whether the bytes are an ELF file.
pub fn elf(bytes: &[u8]) -> bool {
    crate::formats::elf::read(std::io::Cursor::new(bytes)).is_some()
}
