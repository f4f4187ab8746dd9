//! Writes `/etc/ld.so.cache`, so that no `ldconfig` has to run, neither the host's on a hostile
//! tree nor the image's own.
//!
//! Format: glibc `sysdeps/generic/dl-cache.h` and `elf/cache.c`. The reader is
//! [`gpu_host::ldcache`].

use std::cmp::Ordering;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use gpu_host::ldcache::{
    BadCache, Cache, EXTENSION_HWCAPS, EXTENSION_MAGIC, HWCAP_EXTENSION, Raw, read,
};

use crate::edits::Library;

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;
/// `struct cache_extension` with one section.
const EXTENSION: usize = 24;
/// `FLAG_ELF_LIBC6`.
const LIBC6: u32 = 3;

/// The flags of a library for this machine's architecture (`dl-cache.h`).
fn flags(compat32: bool) -> u32 {
    if compat32 {
        return LIBC6;
    }
    match std::env::consts::ARCH {
        "x86_64" => 0x0300 | LIBC6,
        "aarch64" => 0x0a00 | LIBC6,
        "powerpc64" => 0x0500 | LIBC6,
        _ => LIBC6,
    }
}

/// Merges our libraries into the image's cache. Returns the bytes.
pub fn with_libraries(image: &[u8], libraries: &[Library]) -> Result<Vec<u8>, BadCache> {
    let merged = MergedCache::new(image, libraries)?;
    let mut bytes = Vec::new();
    // Writing to a `Vec` cannot fail.
    let _ = merged.write(&mut bytes);
    Ok(bytes)
}

/// The image's cache merged with our libraries. An entry of the image with the name of one of ours
/// is dropped.
///
/// Strings are borrowed, because an image can have tens of thousands of libraries.
#[derive(Debug)]
pub struct MergedCache<'a> {
    /// Our libraries, sorted and without duplicate names.
    ours: Vec<Raw<'a>>,
    /// The image's entries, sorted and without names of ours.
    image_entries: Cache<'a>,
}

impl<'a> MergedCache<'a> {
    /// Merges libraries into the cache with these bytes. A cache that the loader does not use counts as empty. A
    /// cache of which the loader uses a part but which we cannot read completely is an error: if the image's
    /// libraries were missing from the result, programs of the image would no longer start.
    pub fn new(
        image: &'a [u8],
        libraries: impl IntoIterator<Item = &'a Library>,
    ) -> Result<Self, BadCache> {
        let ours = libraries.into_iter().map(|l| Raw {
            soname: l.soname.as_bytes(),
            path: l.path.as_os_str().as_bytes(),
            flags: flags(l.compat32),
            hwcap: 0,
        });
        let mut ours: Vec<Raw<'_>> = ours.collect();
        ours.sort_by(order);
        ours.dedup_by(|a, b| order(a, b).is_eq());
        let mut image_entries = match read(image) {
            Ok(entries) => entries,
            Err(BadCache::Magic | BadCache::CutShort) => Cache::default(),
            Err(bad @ (BadCache::Damaged | BadCache::Amplified)) => return Err(bad),
        };
        // Drops entries that refer to a hwcaps directory by an index that does not exist.
        let hwcaps = image_entries.hwcaps.len();
        let named = |hwcap: u64| usize::try_from(hwcap & 0xffff_ffff).is_ok_and(|n| n < hwcaps);
        image_entries.retain(|e| e.hwcap & HWCAP_EXTENSION == 0 || named(e.hwcap));
        // Nearly always it is sorted already, because an ldconfig wrote it. The sort is stable, so
        // that entries with the same name keep the order that their ldconfig chose.
        if !image_entries
            .entries()
            .is_sorted_by(|a, b| order(a, b).is_le())
        {
            image_entries.sort_by(order);
        }
        let mut own = ours.iter().copied().peekable();
        image_entries.retain(|entry| {
            while own.next_if(|o| order(o, entry).is_lt()).is_some() {}
            own.peek().is_none_or(|o| order(o, entry).is_ne())
        });
        Ok(Self {
            ours,
            image_entries,
        })
    }

    fn len(&self) -> usize {
        self.ours.len() + self.image_entries.len()
    }

    fn entries(&self) -> impl Iterator<Item = Raw<'a>> {
        let mut ours = self.ours.iter().copied().peekable();
        let mut image_entries = self.image_entries.entries().peekable();
        std::iter::from_fn(move || match (ours.peek(), image_entries.peek()) {
            (Some(own), Some(their)) if order(their, own).is_gt() => ours.next(),
            (Some(_), None) => ours.next(),
            _ => image_entries.next(),
        })
    }

    /// Writes the cache sequentially.
    pub fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        let start = HEADER + self.len() * ENTRY;
        let names = self.entries().map(|e| strings_size(&e));
        let names: usize = names.sum();
        let hwcaps = &self.image_entries.hwcaps;
        let end = start + names + hwcaps.iter().map(|name| name.len() + 1).sum::<usize>();
        let extension = end.next_multiple_of(4);

        to.write_all(MAGIC)?;
        to.write_all(&word(self.len()))?;
        to.write_all(&word(end - start))?;
        // `cache_file_new_flags_endian_little`: the loader refuses the wrong one.
        to.write_all(&[2, 0, 0, 0])?;
        to.write_all(&word(if hwcaps.is_empty() { 0 } else { extension }))?;
        to.write_all(&[0; 12])?;
        let mut value = start;
        for entry in self.entries() {
            to.write_all(&entry.flags.to_ne_bytes())?;
            to.write_all(&word(value + key(&entry)))?;
            to.write_all(&word(value))?;
            to.write_all(&[0; 4])?;
            to.write_all(&entry.hwcap.to_ne_bytes())?;
            value += strings_size(&entry);
        }
        for entry in self.entries() {
            to.write_all(entry.path)?;
            to.write_all(&[0])?;
            if !is_path_suffix(&entry) {
                to.write_all(entry.soname)?;
                to.write_all(&[0])?;
            }
        }
        for name in hwcaps {
            to.write_all(name)?;
            to.write_all(&[0])?;
        }
        if hwcaps.is_empty() {
            return Ok(());
        }
        to.write_all(&[0; 4][..extension - end])?;
        for number in [EXTENSION_MAGIC, 1, EXTENSION_HWCAPS, 0] {
            to.write_all(&number.to_ne_bytes())?;
        }
        to.write_all(&word(extension + EXTENSION))?;
        to.write_all(&word(hwcaps.len() * 4))?;
        // Offsets of the names of directories below `glibc-hwcaps`.
        let mut at = start + names;
        for name in hwcaps {
            to.write_all(&word(at))?;
            at += name.len() + 1;
        }
        Ok(())
    }
}

/// Whether the SONAME is the end of the path, as it mostly is. Both then share one string.
fn is_path_suffix(entry: &Raw<'_>) -> bool {
    // This runs three times for each entry, so pointers are compared first: ldconfig lets both
    // share one string in the image's cache.
    let is_shared = entry.path.as_ptr_range().end == entry.soname.as_ptr_range().end;
    is_shared && entry.soname.len() <= entry.path.len() || entry.path.ends_with(entry.soname)
}

/// Offset of the SONAME's string from that of the path.
fn key(entry: &Raw<'_>) -> usize {
    if is_path_suffix(entry) {
        entry.path.len() - entry.soname.len()
    } else {
        entry.path.len() + 1
    }
}

/// Bytes of an entry's strings, with their NULs.
fn strings_size(entry: &Raw<'_>) -> usize {
    key(entry) + entry.soname.len() + 1
}

fn order(a: &Raw<'_>, b: &Raw<'_>) -> Ordering {
    compare(b.soname, a.soname).then(b.flags.cmp(&a.flags))
}

/// Compares like glibc's `_dl_cache_libcmp`: runs of digits compare as numbers. The loader searches
/// with that function, so the order must be exactly the same.
fn compare(mut left: &[u8], mut right: &[u8]) -> Ordering {
    loop {
        match (left.first(), right.first()) {
            (None, None) => return Ordering::Equal,
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let order = number(&mut left).cmp(&number(&mut right));
                if order.is_ne() {
                    return order;
                }
            }
            (Some(x), _) if x.is_ascii_digit() => return Ordering::Greater,
            (Some(_), Some(y)) if y.is_ascii_digit() => return Ordering::Less,
            // As C's `char`, which is signed on x86: the NUL at the end is then greater than bytes above 127.
            (x, y) if x != y => return signed(x).cmp(&signed(y)),
            _ => {
                left = left.get(1..).unwrap_or_default();
                right = right.get(1..).unwrap_or_default();
            }
        }
    }
}

fn signed(byte: Option<&u8>) -> std::ffi::c_char {
    std::ffi::c_char::from_ne_bytes([byte.copied().unwrap_or_default()])
}

/// Removes a number from the start of the text. It wraps like glibc's `int`.
fn number(text: &mut &[u8]) -> i32 {
    let mut value = 0i32;
    while let Some((digit, rest)) = text.split_first().filter(|(d, _)| d.is_ascii_digit()) {
        value = value
            .wrapping_mul(10)
            .wrapping_add(i32::from(*digit - b'0'));
        *text = rest;
    }
    value
}

/// A number as the file has it. It fits, since everything comes from a file of a few MiB.
fn word(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap_or(u32::MAX).to_ne_bytes()
}

#[cfg(test)]
mod against_ldconfig;

#[cfg(test)]
mod tests {
    use gpu_host::ldcache::parse;
    use proptest::prelude::*;

    use super::*;

    fn library(soname: &str, path: &str) -> Library {
        Library {
            path: path.into(),
            soname: soname.into(),
            compat32: false,
        }
    }

    #[test]
    fn our_libraries_take_precedence_and_others_stay() {
        let image = with_libraries(
            b"",
            &[
                library("libc.so.6", "/lib/libc.so.6"),
                library("libcuda.so.1", "/old"),
            ],
        )
        .unwrap();
        let both = with_libraries(&image, &[library("libcuda.so.1", "/new")]).unwrap();
        let entries = parse(&both).unwrap();
        let names: Vec<_> = entries
            .iter()
            .map(|e| (e.soname.as_str(), e.path.to_str().unwrap()))
            .collect();
        assert_eq!(
            names,
            [("libcuda.so.1", "/new"), ("libc.so.6", "/lib/libc.so.6")]
        );
    }

    #[test]
    fn the_order_is_that_of_the_loader() {
        let less = |a: &str, b: &str| {
            assert_eq!(
                compare(a.as_bytes(), b.as_bytes()),
                Ordering::Less,
                "{a} {b}"
            );
        };
        less("libfoo.so.9", "libfoo.so.10");
        less("liba", "libab");
        less("lib-x", "lib1");
        less("libb", "libb1");
        // The order of glibc 2.36's ldconfig on x86-64, where `char` is signed.
        if cfg!(target_arch = "x86_64") {
            assert!(compare(b"liba\xc3\xa9", b"liba").is_lt());
            assert!(compare(b"liba\x91.so", b"liba\xc3\xa9").is_lt());
        }
    }

    /// A cache that the loader does not use is replaced; a cache that the loader uses in part is kept.
    #[test]
    fn only_a_cache_that_the_loader_does_not_use_counts_as_empty() {
        let own = [library("libown.so.1", "/own/libown.so.1")];
        let image = with_libraries(b"", &own).unwrap();
        let ours = [library("libcuda.so.1", "/new")];
        let cut_short = &image[..HEADER + ENTRY - 1];
        for unused in [&image[..HEADER - 1], cut_short, b"", b"no cache at all"] {
            let made = with_libraries(unused, &ours).unwrap();
            assert_eq!(parse(&made).unwrap().len(), 1);
        }
        let without_end = &image[..image.len() - 1];
        let mut outside = image.clone();
        outside[HEADER + 8..HEADER + 12].copy_from_slice(&u32::MAX.to_ne_bytes());
        for damaged in [without_end, &outside] {
            assert_eq!(
                with_libraries(damaged, &ours).err(),
                Some(BadCache::Damaged)
            );
        }
    }

    /// `ldconfig -p` reads the cache as the loader does.
    #[test]
    fn ldconfig_reads_what_we_write() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let libraries: Vec<Library> = (0..40)
            .map(|n| library(&format!("libx{n}.so.{n}"), &format!("/x/{n}")))
            .collect();
        std::fs::write(
            file.path(),
            with_libraries(b"no cache", &libraries).unwrap(),
        )
        .unwrap();
        let out = std::process::Command::new("/sbin/ldconfig")
            .arg("-p")
            .arg("-C")
            .arg(file.path())
            .output()
            .unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(text.starts_with("40 libs found"), "{text}");
        assert!(
            text.contains("libx7.so.7 (libc6,x86-64) => /x/7")
                || std::env::consts::ARCH != "x86_64",
            "{text}"
        );
    }

    proptest! {
        #[test]
        fn any_image_cache_gives_a_valid_one_or_is_refused(bytes: Vec<u8>, at: prop::sample::Index, to: u8) {
            let ours = [library("libcuda.so.1", "/new")];
            let mut damaged = with_libraries(b"", &[library("libown.so.1", "/own")]).unwrap();
            let at = at.index(damaged.len());
            damaged[at] = to;
            for image in [bytes, damaged] {
                match with_libraries(&image, &ours) {
                    Ok(made) => prop_assert!(read(&made).unwrap().entries().any(|e| e.soname == b"libcuda.so.1")),
                    Err(bad) => prop_assert_eq!(read(&image).err(), Some(bad)),
                }
            }
        }

        #[test]
        fn the_order_is_total(a in "[a-c0-3.]{0,6}", b in "[a-c0-3.]{0,6}", c in "[a-c0-3.]{0,6}") {
            let (a, b, c) = (a.as_bytes(), b.as_bytes(), c.as_bytes());
            prop_assert_eq!(compare(a, b), compare(b, a).reverse());
            if compare(a, b).is_le() && compare(b, c).is_le() {
                prop_assert!(compare(a, c).is_le());
            }
        }
    }
}
