//! Finds words in a text of tens of kilobytes without querying the CPU's features. `memchr::memmem` queries them
//! before its first search, and in a virtual machine each query traps. The results are the same.

/// Whether the text has the word anywhere.
pub(super) fn has(text: &[u8], word: &[u8]) -> bool {
    find(text, word).is_some()
}

/// Every position of the word.
pub(super) fn places(text: &[u8], word: &[u8]) -> impl Iterator<Item = usize> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = from + find(text.get(from..)?, word)?;
        from = at + word.len().max(1);
        Some(at)
    })
}

/// Uses only instructions that every CPU of this architecture has.
#[cfg(target_arch = "x86_64")]
fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    use memchr::arch::x86_64::sse2::memchr::One;
    use memchr::arch::x86_64::sse2::packedpair::Finder;

    if let [byte] = word
        && let Some(finder) = One::new(*byte)
    {
        return finder.find(text);
    }
    match Finder::new(word) {
        Some(finder) if text.len() >= finder.min_haystack_len() => finder.find(text, word),
        _ => memchr::arch::all::rabinkarp::Finder::new(word).find(text, word),
    }
}

/// On other architectures memchr does not query the CPU.
#[cfg(not(target_arch = "x86_64"))]
fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, word)
}

#[cfg(test)]
mod tests {
    use memchr::memmem;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_word_is_found_wherever_it_is() {
        for word in [r"\", "//", "dev/\"", "\"/dev\"", "shared"] {
            for before in 0..70 {
                for after in [0, 1, 15, 16, 17, 40] {
                    let text = ["x".repeat(before), word.into(), "x".repeat(after)].concat();
                    let place = find(text.as_bytes(), word.as_bytes());
                    assert_eq!(place, Some(before), "{text}");
                }
            }
        }
        assert!(!has(b"", b"a") && !has(b"share", b"shared"));
        assert_eq!(places(b"aaaaa", b"aa").collect::<Vec<_>>(), [0, 2]);
    }

    proptest! {
        /// Only a few letters, so that there are many matches.
        #[test]
        fn words_are_found_as_by_memmem(text in "[ab/]{0,200}", word in "[ab/]{0,6}") {
            let (text, word) = (text.as_bytes(), word.as_bytes());
            prop_assert_eq!(find(text, word), memmem::find(text, word));
            if !word.is_empty() {
                let all_places: Vec<usize> = places(text, word).collect();
                prop_assert_eq!(all_places, memmem::find_iter(text, word).collect::<Vec<_>>());
            }
        }

        #[test]
        fn the_result_is_the_same_for_any_bytes(text: Vec<u8>, word: Vec<u8>) {
            prop_assert_eq!(find(&text, &word), memmem::find(&text, &word));
        }
    }
}
