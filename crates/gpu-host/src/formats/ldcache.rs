//! Reads `/etc/ld.so.cache`.
//!
//! Format: glibc `sysdeps/generic/dl-cache.h`, `glibc-ld.so.cache1.1`, either alone or after a
//! part in the older format `ld.so-1.7.0`. Numbers have the host's byte order.

use std::cmp::Ordering;
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

const OLD_MAGIC: &[u8] = b"ld.so-1.7.0\0";
const NEW_MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
/// `struct cache_file_new`: magic, `nlibs`, `len_strings`, flags, padding, `extension_offset`, unused.
const NEW_HEADER: usize = 48;
/// `struct file_entry_new`: flags, key, value, osversion, hwcap.
const NEW_ENTRY: usize = 24;
/// `struct file_entry`: flags, key, value.
const OLD_ENTRY: usize = 12;
/// `cache_extension_magic`.
pub const EXTENSION_MAGIC: u32 = 0xeaa4_2174;
/// `cache_extension_tag_glibc_hwcaps`: the section with the offsets of the subdirectory names.
pub const EXTENSION_HWCAPS: u32 = 1;
/// Upper bound for extension sections; glibc has two kinds.
const MOST_SECTIONS: usize = 16;
/// Upper bound for a string, in bytes: `PATH_MAX`, beyond which nothing can be opened.
const LONGEST: usize = 4096;
/// Upper bound for directories below `glibc-hwcaps`; an architecture has at most four.
const MOST_HWCAPS: usize = 64;

/// One library, with owned strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedLibrary {
    /// Name the loader looks up. Bytes that are not UTF-8 are replaced, because no library of a driver has such a
    /// name.
    pub soname: String,
    /// Where it is.
    pub path: PathBuf,
    /// `FLAG_*` of dl-cache.h: kind of libc and architecture.
    pub flags: u32,
    /// Hardware capabilities that the library requires; 0 for most.
    pub hwcap: u64,
}

/// Why a cache cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCache {
    /// The file is in neither format.
    #[error("not an ld.so.cache of glibc 2.2 or later")]
    Magic,
    /// The file is shorter than its header, or than its entries need. The loader does not use such a file either
    /// (glibc `elf/dl-cache.c`).
    #[error("ld.so.cache is cut short")]
    CutShort,
    /// An offset points outside the file, or a part is missing. The loader uses the other entries.
    #[error("ld.so.cache is damaged")]
    Damaged,
    /// So many entries share their strings that reading them would take far more memory than the
    /// file has bytes. Only a hostile image has such a cache.
    #[error("ld.so.cache says far more than its size")]
    Amplified,
}

/// One library, its strings borrowed from the file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a> {
    /// Name the loader looks up.
    pub soname: &'a [u8],
    /// Where it is.
    pub path: &'a [u8],
    /// As in [`CachedLibrary`].
    pub flags: u32,
    /// As in [`CachedLibrary`].
    pub hwcap: u64,
}

/// A parsed cache that borrows from the file's bytes.
#[derive(Clone, Debug, Default)]
pub struct Cache<'a> {
    bytes: &'a [u8],
    /// In the file's order.
    entries: Vec<PackedEntry>,
    /// Names of directories such as `x86-64-v3` below `glibc-hwcaps`, which the entries with
    /// [`HWCAP_EXTENSION`] name by number (glibc 2.33).
    pub hwcaps: Vec<&'a [u8]>,
}

/// A [`Raw`] in half the memory: an image can have tens of thousands of entries, and every
/// container start reads them.
#[derive(Clone, Copy, Debug)]
struct PackedEntry {
    soname: StringSpan,
    path: StringSpan,
    flags: u32,
    hwcap: u64,
}

#[derive(Clone, Copy, Debug)]
struct StringSpan {
    /// Offset in the cache.
    at: u32,
    /// Length in bytes, less than `LONGEST`.
    length: u16,
}

impl<'a> Cache<'a> {
    /// Every entry, in the file's order unless it was sorted.
    pub fn entries(&self) -> impl Iterator<Item = Raw<'a>> {
        self.entries.iter().map(|entry| entry.resolve(self.bytes))
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the cache has no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keeps only the entries for which `is_wanted` is true.
    pub fn retain(&mut self, mut is_wanted: impl FnMut(&Raw<'a>) -> bool) {
        self.entries
            .retain(|entry| is_wanted(&entry.resolve(self.bytes)));
    }

    /// Sorts the entries; equal ones keep their order.
    pub fn sort_by(&mut self, order: impl Fn(&Raw<'a>, &Raw<'a>) -> Ordering) {
        let bytes = self.bytes;
        self.entries
            .sort_by(|a, b| order(&a.resolve(bytes), &b.resolve(bytes)));
    }
}

impl PackedEntry {
    fn resolve(self, bytes: &[u8]) -> Raw<'_> {
        Raw {
            soname: self.soname.resolve(bytes),
            path: self.path.resolve(bytes),
            flags: self.flags,
            hwcap: self.hwcap,
        }
    }
}

impl StringSpan {
    fn resolve(self, bytes: &[u8]) -> &[u8] {
        let from = self.at as usize;
        bytes
            .get(from..from + usize::from(self.length))
            .unwrap_or_default()
    }
}

/// `DL_CACHE_HWCAP_EXTENSION`: the low half of `hwcap` is an index into [`Cache::hwcaps`].
pub const HWCAP_EXTENSION: u64 = 1 << 62;

/// Every entry, in the file's order. Never panics.
pub fn parse(bytes: &[u8]) -> Result<Vec<CachedLibrary>, BadCache> {
    let entries = read(bytes)?.entries().map(CachedLibrary::from).collect();
    Ok(entries)
}

impl From<Raw<'_>> for CachedLibrary {
    fn from(raw: Raw<'_>) -> Self {
        Self {
            soname: String::from_utf8_lossy(raw.soname).into_owned(),
            path: OsStr::from_bytes(raw.path).into(),
            flags: raw.flags,
            hwcap: raw.hwcap,
        }
    }
}

/// Like [`parse`], but copies no strings. Never panics.
pub fn read(bytes: &[u8]) -> Result<Cache<'_>, BadCache> {
    let cache = new_part(bytes)?;
    let room = cache.len().checked_sub(NEW_HEADER);
    let room = room.ok_or(BadCache::CutShort)? / NEW_ENTRY;
    let count = number(cache, 20)? as usize;
    // A count that cannot be true is refused before memory is allocated.
    if count > room {
        return Err(BadCache::CutShort);
    }
    // glibc stores a name as the end of its path, so the strings of a cache that ldconfig wrote
    // have at most twice the size of the file.
    let mut left = cache.len().saturating_mul(4);
    let mut entries = Vec::with_capacity(count);
    for n in 0..count {
        let at = NEW_HEADER + n * NEW_ENTRY;
        let low = u64::from(number(cache, at + 16)?);
        let high = u64::from(number(cache, at + 20)?);
        let soname = text(cache, number(cache, at + 4)?)?;
        let path = text(cache, number(cache, at + 8)?)?;
        left = left
            .checked_sub(usize::from(soname.length) + usize::from(path.length))
            .ok_or(BadCache::Amplified)?;
        entries.push(PackedEntry {
            flags: number(cache, at)?,
            soname,
            path,
            hwcap: high << 32 | low,
        });
    }
    // After a part in the older format the extension's offset would have another base. No ldconfig
    // that writes the extension writes such a part.
    let is_alone = cache.len() == bytes.len();
    let hwcaps = is_alone.then(|| hwcaps(cache)).flatten();
    Ok(Cache {
        bytes: cache,
        entries,
        hwcaps: hwcaps.unwrap_or_default(),
    })
}

/// Reads `struct cache_extension`: magic, count, then sections of tag, flags, offset and size.
fn hwcaps(cache: &[u8]) -> Option<Vec<&[u8]>> {
    let word = |at: usize| number(cache, at).ok();
    let directory = word(32)? as usize;
    if directory == 0 || word(directory)? != EXTENSION_MAGIC {
        return None;
    }
    let count = word(directory + 4)? as usize;
    let mut sections = (0..count.min(MOST_SECTIONS)).map(|n| directory + 8 + n * 16);
    let section = sections.find(|at| word(*at) == Some(EXTENSION_HWCAPS))?;
    let (offset, size) = (word(section + 8)? as usize, word(section + 12)? as usize);
    (0..(size / 4).min(MOST_HWCAPS))
        .map(|n| Some(text(cache, word(offset + n * 4)?).ok()?.resolve(cache)))
        .collect()
}

/// The part in the newer format. String offsets count from its start.
fn new_part(bytes: &[u8]) -> Result<&[u8], BadCache> {
    if bytes.starts_with(NEW_MAGIC) {
        return Ok(bytes);
    }
    if !bytes.starts_with(OLD_MAGIC) {
        return Err(BadCache::Magic);
    }
    let count = number(bytes, OLD_MAGIC.len())? as usize;
    let end = count
        .checked_mul(OLD_ENTRY)
        .and_then(|n| n.checked_add(OLD_MAGIC.len() + 4))
        .ok_or(BadCache::Damaged)?;
    // glibc's ALIGN_CACHE: the newer part starts at a multiple of 8.
    let new = bytes
        .get(end.checked_next_multiple_of(8).ok_or(BadCache::Damaged)?..)
        .ok_or(BadCache::Damaged)?;
    if new.starts_with(NEW_MAGIC) {
        Ok(new)
    } else {
        // There is a part that older loaders use.
        Err(BadCache::Damaged)
    }
}

fn number(bytes: &[u8], at: usize) -> Result<u32, BadCache> {
    bytes
        .get(at..)
        .and_then(|b| b.first_chunk())
        .map(|b| u32::from_ne_bytes(*b))
        .ok_or(BadCache::Damaged)
}

fn text(bytes: &[u8], at: u32) -> Result<StringSpan, BadCache> {
    let from = bytes.get(at as usize..).ok_or(BadCache::Damaged)?;
    let from = from.get(..LONGEST).unwrap_or(from);
    // `memchr` is not used, because its first call queries the CPU's features, which traps in a virtual machine.
    let string = CStr::from_bytes_until_nul(from).map_err(|_| BadCache::Damaged)?;
    let length = u16::try_from(string.count_bytes()).map_err(|_| BadCache::Damaged)?;
    Ok(StringSpan { at, length })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cache(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut strings = Vec::new();
        let start = NEW_HEADER + entries.len() * NEW_ENTRY;
        let mut table = Vec::new();
        for (soname, path) in entries {
            let mut put = |s: &str| {
                let at = u32::try_from(start + strings.len()).unwrap();
                strings.extend_from_slice(s.as_bytes());
                strings.push(0);
                at
            };
            let (key, value) = (put(soname), put(path));
            for n in [0x0303, key, value, 0, 0, 0] {
                table.extend_from_slice(&u32::to_ne_bytes(n));
            }
        }
        let mut bytes = NEW_MAGIC.to_vec();
        bytes.extend_from_slice(&u32::try_from(entries.len()).unwrap().to_ne_bytes());
        bytes.resize(NEW_HEADER, 0);
        bytes.extend(table);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn entries_are_read() {
        let bytes = cache(&[
            ("libcuda.so.1", "/usr/lib/libcuda.so.1"),
            ("libc.so.6", "/lib/libc.so.6"),
        ]);
        let entries = parse(&bytes).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].soname, "libcuda.so.1");
        assert_eq!(entries[1].path, PathBuf::from("/lib/libc.so.6"));
        assert_eq!(entries[0].flags, 0x0303);
    }

    /// A library whose name is in Latin-1 does not hide the others.
    #[test]
    fn names_need_not_be_utf8() {
        let mut bytes = cache(&[
            ("libcuda.so.1", "/usr/lib/libcuda.so.1"),
            ("libX.so", "/X/libX.so"),
        ]);
        for byte in &mut bytes {
            if *byte == b'X' {
                *byte = 0xe9;
            }
        }
        let entries = parse(&bytes).unwrap();
        assert_eq!(entries[0].soname, "libcuda.so.1");
        assert_eq!(entries[1].path.as_os_str().as_bytes(), b"/\xe9/lib\xe9.so");
    }

    #[test]
    fn the_part_in_the_older_format_is_skipped() {
        let mut bytes = OLD_MAGIC.to_vec();
        bytes.extend_from_slice(&1u32.to_ne_bytes());
        bytes.resize(bytes.len() + OLD_ENTRY, 0);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend(cache(&[("a", "/a")]));
        assert_eq!(parse(&bytes).unwrap().len(), 1);
    }

    /// As glibc 2.33 and later write it: a directory of sections, the first of another kind.
    #[test]
    fn names_of_hardware_capabilities_are_read() {
        let mut bytes = cache(&[("a", "/a"), ("b", "/b")]);
        let mut names = Vec::new();
        for name in ["x86-64-v3", "x86-64-v2"] {
            names.push(u32::try_from(bytes.len()).unwrap());
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(0);
        }
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let directory = u32::try_from(bytes.len()).unwrap();
        let sections = directory + 8 + 2 * 16;
        // Tag, flags, offset, size of each: the generator's name, then the capabilities.
        let other = [EXTENSION_HWCAPS + 7, 0, names[0], 9];
        let hwcaps = [EXTENSION_HWCAPS, 0, sections, 8];
        let words = [EXTENSION_MAGIC, 2].into_iter().chain(other).chain(hwcaps);
        for word in words.chain(names) {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        let read_with = |directory: u32| {
            let mut bytes = bytes.clone();
            bytes[32..36].copy_from_slice(&directory.to_ne_bytes());
            let read = read(&bytes).unwrap();
            assert!(read.len() == 2 && !read.is_empty());
            read.hwcaps.iter().map(|n| n.to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(read_with(directory), [b"x86-64-v3", b"x86-64-v2"]);
        assert_eq!(read_with(0), [b""; 0]);
        assert_eq!(read_with(directory + 4), [b""; 0]);
        assert!(read(&cache(&[])).unwrap().is_empty());
    }

    /// Every entry uses the same long string, so the file is small but its entries are not.
    #[test]
    fn a_cache_that_grows_when_read_is_refused() {
        let long = "x".repeat(4000);
        let mut bytes = cache(&vec![("a", "/a"); 5000]);
        let at = u32::try_from(bytes.len()).unwrap().to_ne_bytes();
        bytes.extend_from_slice(long.as_bytes());
        bytes.push(0);
        for n in 0..5000 {
            let value = NEW_HEADER + n * NEW_ENTRY + 8;
            bytes[value..value + 4].copy_from_slice(&at);
        }
        assert_eq!(parse(&bytes), Err(BadCache::Amplified));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
            let _ = parse(&[NEW_MAGIC, &bytes].concat());
            let _ = parse(&[OLD_MAGIC, &bytes].concat());
        }

        #[test]
        fn damage_never_panics(at: prop::sample::Index, to: u8) {
            let mut bytes = cache(&[("libcuda.so.1", "/usr/lib/libcuda.so.1")]);
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _ = parse(&bytes);
        }
    }
}
