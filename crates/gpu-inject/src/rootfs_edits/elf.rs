//! Reads facts from a shared object of an image. The file is hostile and may have any content, so
//! only the needed parts are read, each with an upper bound.
//!
//! Format: System V ABI, "Object Files" and "Dynamic Linking"; gABI 4.1, "Note Section".
//!
//! Longer than 400 lines: every read of a hostile file is bounded by what the header before it says, so all of it is in one
//! place to be reviewed.

use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Maximum sections, and maximum segments, of a file; libcuda has 40 and 10.
const MAX_HEADERS: u64 = 128;
/// Maximum bytes of a section's content and of the string table.
const MAX_BYTES: u64 = 1 << 16;
/// Maximum bytes of the dynamic segment, which has 40 entries of 16 bytes. It is lower because a
/// hook may read thousands of libraries.
const MAX_DYNAMIC: u64 = 1 << 13;

const SHT_NOTE: u64 = 7;
const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const DT_STRTAB: u64 = 5;
const DT_SONAME: u64 = 14;
/// Maximum length of a file name, in bytes.
const NAME_MAX: u64 = 255;

/// An open shared object.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    file: &'a File,
    is_64: bool,
    is_little: bool,
    header: Vec<u8>,
    /// The first error of the file system. It says nothing about the content.
    failure: OnceCell<io::Error>,
}

/// A range of the file.
#[derive(Clone, Copy)]
struct Span {
    offset: u64,
    size: u64,
}

struct Segment {
    kind: u64,
    address: u64,
    span: Span,
}

impl<'a> Object<'a> {
    /// `None` if it is not an ELF file.
    pub(crate) fn open(file: &'a File) -> io::Result<Option<Self>> {
        let mut header = vec![0; 64];
        // A 32-bit header is shorter, but no library is shorter than this.
        match file.read_exact_at(&mut header, 0) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            read => read.map(|()| Self::with_header(file, header)),
        }
    }

    /// The error that prevented a part of the file from being read, if there was one: what was not found may be in
    /// that part.
    pub(crate) fn into_failure(self) -> Option<io::Error> {
        self.failure.into_inner()
    }

    fn with_header(file: &'a File, header: Vec<u8>) -> Option<Self> {
        let (class, order) = (*header.get(4)?, *header.get(5)?);
        if !header.starts_with(b"\x7fELF") || !(1..=2).contains(&class) || !(1..=2).contains(&order)
        {
            return None;
        }
        Some(Self {
            file,
            is_64: class == 2,
            is_little: order == 1,
            header,
            failure: OnceCell::new(),
        })
    }

    /// Whether it is a 32-bit object.
    pub(crate) fn is_32(&self) -> bool {
        !self.is_64
    }

    /// `DT_SONAME`, if it is the name of a file.
    pub(crate) fn soname(&self) -> Option<String> {
        let segments = self.segments();
        let dynamic = segments.iter().find(|s| s.kind == PT_DYNAMIC)?;
        let content = self.read(Span {
            size: dynamic.span.size.min(MAX_DYNAMIC),
            ..dynamic.span
        })?;
        let width = if self.is_64 { 8 } else { 4 };
        let value = |tag: u64| {
            content
                .chunks_exact(width * 2)
                .find(|entry| self.number(entry, 0, width) == Some(tag))
                .and_then(|entry| self.number(entry, width, width))
        };
        let address = value(DT_STRTAB)?.checked_add(value(DT_SONAME)?)?;
        let span = segments
            .iter()
            .filter(|s| s.kind == PT_LOAD)
            .find_map(|s| {
                let within = address.checked_sub(s.address)?;
                let left = s.span.size.checked_sub(within).filter(|left| *left > 0)?;
                Some(Span {
                    offset: s.span.offset.checked_add(within)?,
                    size: left.min(NAME_MAX + 1),
                })
            })?;
        let text = self.read(span)?;
        let end = text.iter().position(|b| *b == 0)?;
        let name = std::str::from_utf8(text.get(..end)?).ok()?;
        (!name.is_empty() && !name.contains('/')).then(|| name.to_owned())
    }

    /// The content of the first note in the section with this name, if it has this owner.
    pub(crate) fn note(&self, section: &str, owner: &str) -> Option<Vec<u8>> {
        let sections = self.sections();
        let [_, _, names] = self.table(3)?;
        let (_, _, names) = sections.get(usize::try_from(names).ok()?)?;
        let names = self.read(*names)?;
        let is_named = |at: &u64| {
            let at = usize::try_from(*at).ok();
            at.and_then(|at| names.get(at..))
                .and_then(|rest| rest.split(|b| *b == 0).next())
                .is_some_and(|name| name == section.as_bytes())
        };
        let (_, _, span) = sections
            .iter()
            .find(|(name, kind, _)| *kind == SHT_NOTE && is_named(name))?;
        let content = self.read(*span)?;
        let word = |at: usize| {
            let value = self.number(&content, at, 4)?;
            usize::try_from(value).ok()
        };
        let (name_size, size) = (word(0)?, word(4)?);
        let start = 12usize;
        let name = content.get(start..start.checked_add(name_size)?)?;
        let is_owner = name.strip_suffix(&[0]).unwrap_or(name) == owner.as_bytes();
        // Names are padded to four bytes in notes of either class.
        let start = start.checked_add(name_size.checked_next_multiple_of(4)?)?;
        let text = content.get(start..start.checked_add(size)?)?;
        is_owner.then(|| text.to_vec())
    }

    /// (offset of the name, type, range) of each section.
    fn sections(&self) -> Vec<(u64, u64, Span)> {
        // Elf32_Shdr and Elf64_Shdr.
        let (size, offset, length) = if self.is_64 {
            (64, (24, 8), (32, 8))
        } else {
            (40, (16, 4), (20, 4))
        };
        self.entries(1, size, |entry| {
            Some((
                self.number(entry, 0, 4)?,
                self.number(entry, 4, 4)?,
                Span {
                    offset: self.number(entry, offset.0, offset.1)?,
                    size: self.number(entry, length.0, length.1)?,
                },
            ))
        })
    }

    fn segments(&self) -> Vec<Segment> {
        // Elf32_Phdr and Elf64_Phdr.
        let (size, width, offset, address, length) = if self.is_64 {
            (56, 8, 8, 16, 32)
        } else {
            (32, 4, 4, 8, 16)
        };
        self.entries(0, size, |entry| {
            Some(Segment {
                kind: self.number(entry, 0, 4)?,
                address: self.number(entry, address, width)?,
                span: Span {
                    offset: self.number(entry, offset, width)?,
                    size: self.number(entry, length, width)?,
                },
            })
        })
    }

    /// Reads from the header: for 0 the offset, entry size and count of the program headers; for 1
    /// those of the section headers; for 3 the offset and count of the section headers and the
    /// index of the string table.
    fn table(&self, which: usize) -> Option<[u64; 3]> {
        let number = |at, width| self.number(&self.header, at, width);
        let (width, program, section, sizes) = if self.is_64 {
            (8, 32, 40, 54)
        } else {
            (4, 28, 32, 42)
        };
        Some(match which {
            0 => [
                number(program, width)?,
                number(sizes, 2)?,
                number(sizes + 2, 2)?,
            ],
            1 => [
                number(section, width)?,
                number(sizes + 4, 2)?,
                number(sizes + 6, 2)?,
            ],
            _ => [
                number(section, width)?,
                number(sizes + 6, 2)?,
                number(sizes + 8, 2)?,
            ],
        })
    }

    fn entries<T>(&self, which: usize, size: u64, read: impl Fn(&[u8]) -> Option<T>) -> Vec<T> {
        let table = self.table(which).filter(|[_, entry, _]| *entry == size);
        let content = table.and_then(|[offset, _, count]| {
            let size = size.checked_mul(count.min(MAX_HEADERS))?;
            self.read(Span { offset, size })
        });
        let Ok(size) = usize::try_from(size) else {
            return Vec::new();
        };
        let content = content.unwrap_or_default();
        content.chunks_exact(size).filter_map(read).collect()
    }

    fn read(&self, span: Span) -> Option<Vec<u8>> {
        let size = usize::try_from(span.size.min(MAX_BYTES)).ok()?;
        let mut content = vec![0; size];
        let mut filled = 0;
        // If the file ends within the section, the content is shorter.
        while let Some(rest) = content.get_mut(filled..).filter(|r| !r.is_empty()) {
            let at = span.offset.checked_add(u64::try_from(filled).ok()?)?;
            match self.file.read_at(rest, at) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    // An invalid offset is a fault of the content, not a read error.
                    if e.kind() != io::ErrorKind::InvalidInput {
                        let _ = self.failure.set(e);
                    }
                    return None;
                }
            }
        }
        content.truncate(filled);
        Some(content)
    }

    fn number(&self, bytes: &[u8], at: usize, width: usize) -> Option<u64> {
        let bytes = bytes.get(at..at.checked_add(width)?)?;
        let add = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        Some(if self.is_little {
            bytes.iter().rev().fold(0, add)
        } else {
            bytes.iter().fold(0, add)
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    pub(crate) const SECTION: &str = ".note.cuda.fwd_compatibility";
    pub(crate) const OWNER: &str = "NVIDIA Corporation";

    /// A 64-bit little-endian shared object with a SONAME and, if given, a note.
    pub(crate) fn object(soname: &str, note: Option<&str>) -> Vec<u8> {
        let mut file = vec![0u8; 64];
        let mut put = |bytes: &[u8]| {
            let at = file.len() as u64;
            file.extend_from_slice(bytes);
            file.resize(file.len().next_multiple_of(8), 0);
            at
        };
        let words =
            |list: &[u64]| -> Vec<u8> { list.iter().flat_map(|n| n.to_le_bytes()).collect() };
        let strings = put(format!("\0{soname}\0").as_bytes());
        let dynamic = put(&words(&[DT_STRTAB, strings, DT_SONAME, 1, 0, 0]));
        let names = format!("\0{SECTION}\0.shstrtab\0");
        let names_at = put(names.as_bytes());
        let note = note.map(|text| {
            let mut made = Vec::new();
            for n in [OWNER.len() + 1, text.len(), 1] {
                made.extend_from_slice(&u32::try_from(n).unwrap().to_le_bytes());
            }
            made.extend_from_slice(OWNER.as_bytes());
            made.resize((made.len() + 1).next_multiple_of(4), 0);
            made.extend_from_slice(text.as_bytes());
            (put(&made), made.len() as u64)
        });
        let header = |name: u64, kind: u64, at: u64, size: u64| {
            [
                words(&[kind << 32 | name]),
                words(&[0, 0, at, size, 0, 0, 0]),
            ]
            .concat()
        };
        let mut sections = header(0, 0, 0, 0);
        let mut count = 2u16;
        if let Some((at, size)) = note {
            sections.extend(header(1, SHT_NOTE, at, size));
            count = 3;
        }
        sections.extend(header(
            2 + SECTION.len() as u64,
            3,
            names_at,
            names.len() as u64,
        ));
        let sections = put(&sections);
        let segment = |kind: u64, at: u64, size: u64| words(&[kind, at, at, at, size, size, 0]);
        let program = [
            segment(PT_LOAD, 0, sections),
            segment(PT_DYNAMIC, dynamic, 48),
        ]
        .concat();
        let program = put(&program);
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        // ET_DYN and EM_X86_64, which ldconfig checks.
        file[16..24].copy_from_slice(&[3, 0, 62, 0, 1, 0, 0, 0]);
        file[32..40].copy_from_slice(&program.to_le_bytes());
        file[40..48].copy_from_slice(&sections.to_le_bytes());
        for (at, n) in [(54, 56), (56, 2), (58, 64), (60, count), (62, count - 1)] {
            file[at..at + 2].copy_from_slice(&u16::to_le_bytes(n));
        }
        file
    }

    pub(crate) fn open(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn a_soname_and_a_note_are_found() {
        let file = open(&object("libcuda.so.1", Some("{}")));
        let object = Object::open(&file).unwrap().unwrap();
        assert_eq!(object.soname().as_deref(), Some("libcuda.so.1"));
        assert_eq!(object.note(SECTION, OWNER).as_deref(), Some(&b"{}"[..]));
        assert_eq!(object.note(SECTION, "GNU"), None);
        assert_eq!(object.note(".note.other", OWNER), None);
        assert!(!object.is_32());
    }

    #[test]
    fn a_real_library_has_a_soname() {
        let path = std::fs::read_to_string("/proc/self/maps").unwrap();
        let Some(libc) = path.lines().find_map(|l| {
            l.split(' ')
                .next_back()
                .filter(|p| p.ends_with("libc.so.6"))
        }) else {
            skips::skip(skips::Need::Dynamic, "this test program maps no libc.so.6");
            return;
        };
        let file = File::open(libc).unwrap();
        assert_eq!(
            Object::open(&file).unwrap().unwrap().soname().as_deref(),
            Some("libc.so.6")
        );
    }

    #[test]
    fn a_file_that_is_no_library_and_a_soname_that_is_a_path_are_none() {
        assert!(Object::open(&open(b"")).unwrap().is_none());
        assert!(Object::open(&open(&[0; 200])).unwrap().is_none());
        let file = open(&object("../libcuda.so.1", None));
        assert_eq!(Object::open(&file).unwrap().unwrap().soname(), None);
    }

    #[test]
    fn a_file_with_huge_sizes_in_its_headers_is_read_in_small_parts() {
        let mut bytes = object("libcuda.so.1", Some("{}"));
        for at in [32, 40] {
            bytes[at..at + 8].copy_from_slice(&(1u64 << 40).to_le_bytes());
        }
        for at in [56, 60, 62] {
            bytes[at..at + 2].copy_from_slice(&u16::MAX.to_le_bytes());
        }
        let file = open(&bytes);
        file.set_len(1 << 41).unwrap();
        let object = Object::open(&file).unwrap().unwrap();
        assert_eq!((object.soname(), object.note(SECTION, OWNER)), (None, None));
    }

    proptest! {
        #[test]
        fn no_file_panics(at in 0usize..600, with: [u8; 8], cut in 0usize..700) {
            let mut bytes = object("libcuda.so.1", Some("{\"Driver\":[1]}"));
            let end = bytes.len();
            let at = at.min(end - 8);
            bytes[at..at + 8].copy_from_slice(&with);
            bytes.truncate(cut.max(64).min(end));
            let file = open(&bytes);
            if let Some(object) = Object::open(&file).unwrap() {
                let _ = (object.soname(), object.note(SECTION, OWNER));
            }
        }
    }
}
