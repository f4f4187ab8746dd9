//! What is anywhere in the text of a config.json, looked for in one pass. It is said of the text, whatever JSON makes of it.
//!
//! By hand: a search for one word after the other reads tens of kilobytes a dozen times, and the first one by `memchr` asks the
//! CPU what it can do, each question a trap in a virtual machine.

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mentions {
    /// A small letter could be written as an escape, `\u006…` or `\u007…`.
    pub(super) has_hidden_letters: bool,
    /// There is a way to write /dev that its name alone does not find: any escape, or a path that is not plain.
    pub(super) has_odd_paths: bool,
    /// `shared`.
    pub(super) has_shared: bool,
    /// How often `"root"` is there.
    pub(super) roots: usize,
    /// How often `"/dev"` is there, and where first.
    pub(super) devs: usize,
    pub(super) first_dev: usize,
}

/// Bytes that are looked at together.
const BLOCK: usize = 32;
/// As many bytes from a place on tell whether a word could begin there.
const AHEAD: usize = 4;

impl Mentions {
    pub(super) fn of(text: &[u8]) -> Self {
        let mut found = Self::default();
        let mut at = 0;
        while let Some(block) = text.get(at..).and_then(|rest| rest.first_chunk()) {
            if may_begin(block) {
                (at..at + BLOCK).for_each(|place| found.note(text, place));
            }
            at += BLOCK;
        }
        (at..text.len()).for_each(|place| found.note(text, place));
        found
    }

    /// What begins at this place.
    fn note(&mut self, text: &[u8], place: usize) {
        let rest = &text[place..];
        let is = |word: &[u8]| rest.starts_with(word);
        match rest {
            [b'\\', ..] => {
                self.has_odd_paths = true;
                self.has_hidden_letters |= is(br"\u006") || is(br"\u007");
            }
            [b'/', ..] => {
                self.has_odd_paths |= is(b"//") || is(b"/..") || is(b"/./") || is(b"/.\"");
            }
            [b'd', ..] => self.has_odd_paths |= is(b"dev/\""),
            [b's', ..] => self.has_shared |= is(b"shared"),
            [b'"', ..] => {
                self.has_odd_paths |= is(b"\"dev\"");
                self.roots += usize::from(is(b"\"root\""));
                if is(b"\"/dev\"") {
                    if self.devs == 0 {
                        self.first_dev = place;
                    }
                    self.devs += 1;
                }
            }
            _ => {}
        }
    }
}

/// Whether a word could begin in the first bytes of a block: yes for some more. Without branches, so that the compiler looks at many
/// bytes at once. Each word has a line of its own, by what is rare in it.
fn may_begin(block: &[u8; BLOCK + AHEAD - 1]) -> bool {
    let mut may = false;
    for n in 0..BLOCK {
        let [a, b, c, d] = [block[n], block[n + 1], block[n + 2], block[n + 3]];
        may |= a == b'\\';
        may |= (a == b'/') & ((b == b'.') | (b == b'/'));
        may |= (a == b'd') & (c == b'v') & (d == b'/');
        may |= (a == b's') & (b == b'h') & (c == b'a') & (d == b'r');
        may |= (a == b'"') & (b == b'd') & (c == b'e');
        may |= (a == b'"') & (b == b'r') & (d == b'o');
        may |= (a == b'"') & (b == b'/') & (c == b'd') & (d == b'e');
    }
    may
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same by a search for each word.
    fn word_by_word(text: &[u8]) -> Mentions {
        let places = |word: &str| -> Vec<usize> {
            let windows = text.windows(word.len()).enumerate();
            windows
                .filter(|(_, found)| *found == word.as_bytes())
                .map(|(at, _)| at)
                .collect()
        };
        let has = |words: &[&str]| words.iter().any(|word| !places(word).is_empty());
        let devs = places("\"/dev\"");
        Mentions {
            has_hidden_letters: has(&["\\u006", "\\u007"]),
            has_odd_paths: has(&["\\", "/..", "/./", "/.\"", "//", "dev/\"", "\"dev\""]),
            has_shared: has(&["shared"]),
            roots: places("\"root\"").len(),
            devs: devs.len(),
            first_dev: devs.first().copied().unwrap_or_default(),
        }
    }

    /// At every place of a block and around its end.
    #[test]
    fn each_word_is_found_wherever_it_is() {
        for word in [
            "\\", "\\u0061", "\\u0071", "/..", "/./", "/.\"", "//", "dev/\"", "\"dev\"", "shared",
            "\"root\"", "\"/dev\"",
        ] {
            for before in 0..2 * BLOCK + 2 {
                for after in [0, 1, BLOCK, 2 * BLOCK] {
                    let text = ["x".repeat(before), word.into(), "x".repeat(after)].concat();
                    let found = Mentions::of(text.as_bytes());
                    assert_eq!(found, word_by_word(text.as_bytes()), "{text}");
                    assert_ne!(found, Mentions::default(), "{text}");
                }
            }
        }
    }

    #[test]
    fn what_is_like_a_word_is_none() {
        for text in [
            "",
            "d",
            "share",
            "/dev",
            "\"/dev",
            "\"/dev/null\"",
            "/.x/",
            "dev\"",
            "\"roo",
            "/.",
            "\"de",
            "nodev",
            "\"ro\"",
        ] {
            for before in 0..BLOCK {
                let text = ["x".repeat(before), text.into()].concat();
                assert_eq!(Mentions::of(text.as_bytes()), Mentions::default(), "{text}");
            }
        }
    }

    proptest! {
        /// Of the bytes that words are made of, so that there are many.
        #[test]
        fn one_pass_finds_what_many_do(text in r#"([\\/."devsharotu0671x]|shared|"/dev"|"root"|\\u00|x{30}){0,60}"#) {
            prop_assert_eq!(Mentions::of(text.as_bytes()), word_by_word(text.as_bytes()));
        }

        #[test]
        fn any_bytes_do(text: Vec<u8>) {
            prop_assert_eq!(Mentions::of(&text), word_by_word(&text));
        }
    }
}
