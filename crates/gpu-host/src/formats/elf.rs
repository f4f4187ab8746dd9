//! Reads the word size and the SONAME of an ELF shared object.
//!
//! A driver's library can have 100 MB, with its dynamic section and strings at the end of a
//! segment of that size. Only the headers, the dynamic section and the one string are read, and
//! each has an upper bound.

use std::io::{Read, Seek};
use std::mem::size_of;

use object::Endianness;
use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::read::{FileKind, ReadCache, ReadRef};

/// Upper bound for program headers; libcuda has 11.
const MOST_SEGMENTS: u64 = 128;
/// Upper bound for the dynamic section, in bytes; libcuda's has 40 entries of 16 bytes.
const MOST_DYNAMIC: u64 = 8 << 10;
/// Upper bound for a SONAME, in bytes: it is a file name, so `NAME_MAX` and the NUL.
const MOST_NAME: u64 = 256;

/// What is read from an ELF shared object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SharedObject {
    /// `ELFCLASS32`.
    pub(crate) is_32: bool,
    /// `DT_SONAME`.
    pub(crate) soname: Option<String>,
}

/// Reads headers, dynamic section and SONAME; `None` if the file is not ELF.
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
    if u64::from(header.e_phnum(endian)) > MOST_SEGMENTS {
        return None;
    }
    let segments = header.program_headers(endian, data).ok()?;
    let dynamic = segments
        .iter()
        .find(|s| s.p_type(endian) == elf::PT_DYNAMIC)?;
    let (offset, size) = dynamic.file_range(endian);
    let entry = u64::try_from(size_of::<H::Dyn>()).ok()?;
    let count = usize::try_from(size.min(MOST_DYNAMIC) / entry).ok()?;
    let entries: &[H::Dyn] = data.read_slice_at(offset, count).ok()?;
    let value = |tag| {
        entries
            .iter()
            .find(|d| d.tag(endian) == tag)
            .map(|d| d.val(endian))
    };
    let address = value(elf::DT_STRTAB)?.checked_add(value(elf::DT_SONAME)?)?;
    let (offset, size) = segments
        .iter()
        .filter(|s| s.p_type(endian) == elf::PT_LOAD)
        .find_map(|s| {
            let (offset, size) = s.file_range(endian);
            let within = address.checked_sub(s.p_vaddr(endian).into())?;
            let left = size.checked_sub(within).filter(|left| *left > 0)?;
            Some((offset.checked_add(within)?, left.min(MOST_NAME)))
        })?;
    let text = data.read_bytes_at(offset, size).ok()?;
    let end = text.iter().position(|b| *b == 0)?;
    let name = std::str::from_utf8(text.get(..end)?).ok()?;
    (!name.is_empty() && !name.contains('/')).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{self, SeekFrom};
    use std::os::unix::fs::FileExt;

    use fake_driver::elf::SharedObject as Fake;

    use super::*;

    /// A file that counts the bytes read from it.
    struct Counted<'a> {
        file: File,
        read: &'a mut u64,
    }

    impl Read for Counted<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.file.read(into)?;
            *self.read += count as u64;
            Ok(count)
        }
    }

    impl Seek for Counted<'_> {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.file.seek(to)
        }
    }

    fn library(soname: &str, is_32: bool, size: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        Fake::new(soname, is_32, size).write(&file).unwrap();
        file
    }

    #[test]
    fn a_library_of_any_size_is_read_in_part() {
        for size in [0, 1 << 20, 105 << 20, 3 << 30] {
            for is_32 in [false, true] {
                let mut count = 0;
                let object = read(Counted {
                    file: library("libcuda.so.1", is_32, size),
                    read: &mut count,
                });
                let expected = SharedObject {
                    is_32,
                    soname: Some("libcuda.so.1".into()),
                };
                assert_eq!(object, Some(expected), "{size} bytes");
                assert!(count < 16 << 10, "{size} bytes: {count} were read");
            }
        }
    }

    /// The bounds hold whatever offsets and sizes the headers have.
    #[test]
    fn no_header_makes_the_reader_exceed_its_bounds() {
        let at = 64 + 56 + 8;
        for (offset, value) in [(0, u64::MAX), (0, 1 << 40), (24, u64::MAX), (24, 3 << 30)] {
            let file = library("libcuda.so.1", false, 105 << 20);
            file.write_all_at(&value.to_le_bytes(), at + offset)
                .unwrap();
            let mut count = 0;
            let _ = read(Counted {
                file,
                read: &mut count,
            });
            assert!(
                count < 32 << 10,
                "{value:#x} at {offset}: {count} were read"
            );
        }
        let file = library("libcuda.so.1", false, 105 << 20);
        // e_phnum
        file.write_all_at(&u16::MAX.to_le_bytes(), 56).unwrap();
        let mut count = 0;
        let _ = read(Counted {
            file,
            read: &mut count,
        });
        assert!(count < 1 << 10, "{count} were read");
    }

    fn read_copy(file: &File) -> Option<SharedObject> {
        read(file.try_clone().unwrap())
    }

    #[test]
    fn a_soname_that_is_not_a_file_name_is_ignored() {
        let longest = "x".repeat(255);
        for (soname, expected) in [
            ("libcuda.so.1", Some("libcuda.so.1")),
            (&longest, Some(&*longest)),
            (&"x".repeat(256), None),
            ("", None),
            ("../libcuda.so.1", None),
            ("/lib/libcuda.so.1", None),
        ] {
            for is_32 in [false, true] {
                let object = read_copy(&library(soname, is_32, 0)).unwrap();
                assert_eq!(object.soname.as_deref(), expected, "{soname}");
                assert_eq!(object.is_32, is_32);
            }
        }
        let not_text = library("libcuda.so.1", false, 0);
        let bytes = fake_driver::elf::shared_object("libcuda.so.1", false);
        let name_at = bytes.len() - "libcuda.so.1".len() - 1;
        not_text.write_all_at(b"\xff", name_at as u64).unwrap();
        assert_eq!(read_copy(&not_text).unwrap().soname, None);
    }

    #[test]
    fn a_file_that_is_not_elf_is_none() {
        for bytes in [&b""[..], b"\x7fELF", b"#!/bin/sh\n", b"!<arch>\n"] {
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(bytes, 0).unwrap();
            assert_eq!(read_copy(&file), None);
        }
    }

    /// The string starts behind the end of the segment, or is cut by it.
    #[test]
    fn a_soname_outside_the_segments_is_ignored() {
        let bytes = fake_driver::elf::shared_object("libcuda.so.1", false);
        // p_filesz and p_vaddr of the first segment.
        let (size_at, address_at) = (64 + 32, 64 + 16);
        let name_at = (bytes.len() - "libcuda.so.1".len() - 1) as u64;
        for (at, value, is_found) in [
            (size_at, name_at, false),
            (size_at, name_at + 5, false),
            (size_at, bytes.len() as u64, true),
            (address_at, name_at + 1, false),
        ] {
            let file = library("libcuda.so.1", false, 0);
            file.write_all_at(&value.to_le_bytes(), at).unwrap();
            let soname = read_copy(&file).unwrap().soname;
            assert_eq!(soname.is_some(), is_found, "{value} at {at}: {soname:?}");
        }
    }
}
