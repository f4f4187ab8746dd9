//! The two facts we need of a shared object: its word size and its SONAME.

use std::io::{Read, Seek};

use object::Endianness;
use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::read::{FileKind, ReadCache, ReadRef};

/// What an ELF shared object says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SharedObject {
    /// `ELFCLASS32`.
    pub(crate) is_32: bool,
    /// `DT_SONAME`.
    pub(crate) soname: Option<String>,
}

/// Reads headers and the dynamic section only; `None` for what is no ELF file.
pub(crate) fn read(file: impl Read + Seek) -> Option<SharedObject> {
    let data = ReadCache::new(file);
    match FileKind::parse(&data).ok()? {
        FileKind::Elf32 => Some(SharedObject {
            is_32: true,
            soname: soname::<FileHeader32<Endianness>, _>(&data),
        }),
        FileKind::Elf64 => Some(SharedObject {
            is_32: false,
            soname: soname::<FileHeader64<Endianness>, _>(&data),
        }),
        _ => None,
    }
}

fn soname<'data, H, R>(data: R) -> Option<String>
where
    H: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let header = H::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, data).ok()?;
    let entries = segments
        .iter()
        .find_map(|s| s.dynamic(endian, data).ok().flatten())?;
    let value = |tag| {
        entries
            .iter()
            .find(|d| d.tag(endian) == tag)
            .map(|d| d.val(endian))
    };
    let address = value(elf::DT_STRTAB)?.checked_add(value(elf::DT_SONAME)?)?;
    // A SONAME is a file name: NAME_MAX and its NUL.
    let text = (1..=256u64).rev().find_map(|length| {
        segments
            .iter()
            .filter(|s| s.p_type(endian) == elf::PT_LOAD)
            .find_map(|s| s.data_range(endian, data, address, length).ok().flatten())
    })?;
    let end = text.iter().position(|b| *b == 0)?;
    let name = std::str::from_utf8(text.get(..end)?).ok()?;
    (!name.is_empty() && !name.contains('/')).then(|| name.to_owned())
}
