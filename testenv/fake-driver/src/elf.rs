//! The smallest shared object that ldconfig and the loader accept: a header, one segment, a dynamic section with a
//! SONAME, no symbols (`elf(5)`, gABI chapter 5).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const SHT_NULL: u16 = 0;
const DT_NULL: u64 = 0;
const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_STRSZ: u64 = 10;
const DT_SYMENT: u64 = 11;
const DT_SONAME: u64 = 14;

/// A shared object with this SONAME for the machine this runs on (x86-64 or aarch64), or for i386 if `is_32`.
pub fn shared_object(soname: &str, is_32: bool) -> Vec<u8> {
    let object = SharedObject::new(soname, is_32, 0);
    let mut bytes = object.head;
    bytes.extend(object.tail);
    bytes
}

/// A shared object whose dynamic section and strings are at the end of one large segment, as linkers lay out a
/// library of 100 MB. Between head and tail is a hole.
pub struct SharedObject {
    head: Vec<u8>,
    tail: Vec<u8>,
    tail_at: u64,
}

impl SharedObject {
    /// A shared object of this many bytes, or as many as it needs if that is more.
    pub fn new(soname: &str, is_32: bool, size: u64) -> Self {
        let layout = Layout { is_32 };
        let (header, segment) = if is_32 { (52, 32) } else { (64, 56) };
        let word = if is_32 { 4 } else { 8 };
        let head_size = header + 2 * segment;
        let symbol = if is_32 { 16 } else { 24 };
        let text: Vec<u8> = [b"\0", soname.as_bytes(), b"\0"].concat();
        let tail_size = 7 * 2 * word + symbol + 16 + text.len() as u64;
        let dynamic = (size.saturating_sub(tail_size) & !7).max(head_size);
        let symbols = dynamic + 7 * 2 * word;
        // One bucket, one chain entry, both empty: nbucket, nchain, bucket, chain.
        let hash = symbols + symbol;
        let strings = hash + 16;

        let machine = match (is_32, std::env::consts::ARCH) {
            (true, _) => 3,
            (false, "aarch64") => 183,
            (false, _) => 62,
        };
        let mut head = vec![0x7f, b'E', b'L', b'F', if is_32 { 1 } else { 2 }, 1, 1];
        head.resize(16, 0);
        for half in [3u16, machine] {
            head.extend(half.to_le_bytes());
        }
        head.extend(1u32.to_le_bytes());
        for address in [0, header, 0] {
            layout.word(&mut head, address);
        }
        head.extend(0u32.to_le_bytes());
        let halves = [header, segment, 2].map(|n| u16::try_from(n).unwrap_or(0));
        for half in halves.into_iter().chain([0, 0, SHT_NULL]) {
            head.extend(half.to_le_bytes());
        }
        layout.segment(&mut head, 1, 0, dynamic + tail_size, 0x1000);
        layout.segment(&mut head, 2, dynamic, symbols - dynamic, 8);
        let mut tail = Vec::new();
        let entries = [
            (DT_SONAME, 1),
            (DT_HASH, hash),
            (DT_STRTAB, strings),
            (DT_SYMTAB, symbols),
            (DT_STRSZ, text.len() as u64),
            (DT_SYMENT, symbol),
            (DT_NULL, 0),
        ];
        for (tag, value) in entries {
            layout.word(&mut tail, tag);
            layout.word(&mut tail, value);
        }
        tail.resize(tail.len() + usize::try_from(symbol).unwrap_or(0), 0);
        for number in [1u32, 1, 0, 0] {
            tail.extend(number.to_le_bytes());
        }
        tail.extend(text);
        Self {
            head,
            tail,
            tail_at: dynamic,
        }
    }

    /// Writes it to a new file, which takes up a few kB of disk whatever its size.
    pub fn write(&self, file: &File) -> io::Result<()> {
        file.write_all_at(&self.head, 0)?;
        file.write_all_at(&self.tail, self.tail_at)
    }
}

struct Layout {
    is_32: bool,
}

impl Layout {
    fn word(&self, out: &mut Vec<u8>, value: u64) {
        if self.is_32 {
            out.extend(u32::try_from(value).unwrap_or(0).to_le_bytes());
        } else {
            out.extend(value.to_le_bytes());
        }
    }

    /// A program header for a part of the file that is readable and writable.
    fn segment(&self, out: &mut Vec<u8>, kind: u32, at: u64, size: u64, align: u64) {
        const READ_WRITE: u32 = 6;
        out.extend(kind.to_le_bytes());
        if !self.is_32 {
            out.extend(READ_WRITE.to_le_bytes());
        }
        for value in [at, at, at, size, size] {
            self.word(out, value);
        }
        if self.is_32 {
            out.extend(READ_WRITE.to_le_bytes());
        }
        self.word(out, align);
    }
}
