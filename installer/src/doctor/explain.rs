//! Explains a program's error message: finds the known problems that it points to.
//!
//! A message arrives wrapped: with timestamps, with quotes escaped once for each layer that
//! passed it on, coloured, and broken into lines by a terminal. So spaces, quotes and case are
//! ignored, in the message and in the table. The text itself is never shown again: it may
//! contain passwords.

use std::sync::LazyLock;

use crate::doctor::catalog::{self, Problem};

/// How many bytes of a text are read. Of a longer text the end is read: that is where a log has
/// the latest events.
pub const LIMIT: usize = 1 << 20;
/// How far apart the parts of a message may be, in bytes of the bare text.
const GAP: usize = 300;
/// How many possible starts of a message are tried.
const TRIES: usize = 50;

/// A problem that the text may point to.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// The problem.
    pub problem: &'static Problem,
    /// The fragment of the table that matches.
    pub matched: &'static str,
    /// Length of the fragment: a longer match is a surer one.
    pub letters: usize,
}

/// A fragment of the table as bare text, split at its `*`.
struct Pattern {
    problem: &'static Problem,
    text: &'static str,
    parts: Vec<String>,
    letters: usize,
}

static PATTERNS: LazyLock<Vec<Pattern>> = LazyLock::new(|| {
    let of = |problem: &'static Problem| problem.errors.iter().map(move |text| (problem, text));
    let all = catalog::problems().iter().flat_map(of);
    all.map(|(problem, text)| {
        let parts: Vec<String> = text
            .split('*')
            .map(bare)
            .filter(|p| !p.is_empty())
            .collect();
        let letters = parts.iter().map(String::len).sum();
        Pattern {
            problem,
            text,
            parts,
            letters,
        }
    })
    .collect()
});

/// Problems that a text may point to, the likeliest first, each once.
pub fn explain(text: &[u8]) -> Vec<Candidate> {
    let end = &text[text.len().saturating_sub(LIMIT)..];
    let text = bare(&String::from_utf8_lossy(end));
    let mut candidates: Vec<Candidate> = Vec::new();
    for pattern in PATTERNS.iter().filter(|p| fits(&text, &p.parts)) {
        let candidate = Candidate {
            problem: pattern.problem,
            matched: pattern.text,
            letters: pattern.letters,
        };
        match candidates
            .iter_mut()
            .find(|c| c.problem.id == pattern.problem.id)
        {
            Some(known) if known.letters < candidate.letters => *known = candidate,
            Some(_) => {}
            None => candidates.push(candidate),
        }
    }
    // The sort is stable: equally sure candidates stay in the table's order.
    candidates.sort_by_key(|c| std::cmp::Reverse(c.letters));
    candidates
}

/// A text without terminal escapes, spaces, quotes and backslashes, in lower case.
fn bare(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(c) = letters.next() {
        match c {
            // ECMA-48: a control sequence ends with a letter or one of a few signs.
            '\x1b' if letters.peek() == Some(&'[') => {
                letters.next();
                for c in letters.by_ref() {
                    if ('@'..='~').contains(&c) {
                        break;
                    }
                }
            }
            '\\' => {
                // A log writes an end of line as `\n` and a quote as `\"`, with one more backslash
                // for each layer that passed it on.
                while letters.peek() == Some(&'\\') {
                    letters.next();
                }
                if matches!(letters.peek(), Some('n' | 't' | 'r')) {
                    letters.next();
                }
            }
            '"' | '\'' | '`' | '“' | '”' | '‘' | '’' => {}
            c if c.is_whitespace() || c.is_control() => {}
            c => out.extend(c.to_lowercase()),
        }
    }
    out
}

/// Whether a text contains the parts in order, each within [`GAP`] of the one before.
fn fits(text: &str, parts: &[String]) -> bool {
    let Some((first, rest)) = parts.split_first() else {
        return false;
    };
    let starts = text.match_indices(first.as_str()).take(TRIES);
    starts.map(|(at, _)| at + first.len()).any(|mut at| {
        rest.iter().all(|part| {
            let mut end = (at + GAP + part.len()).min(text.len());
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            match text[at..end].find(part.as_str()) {
                Some(start) => {
                    at += start + part.len();
                    true
                }
                None => false,
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn first(text: &str) -> Option<&'static str> {
        explain(text.as_bytes())
            .first()
            .map(|c| c.problem.id.as_str())
    }

    #[test]
    fn every_fragment_finds_its_own_row_first() {
        for pattern in PATTERNS.iter() {
            assert!(
                pattern.letters >= 12,
                "too short to mean anything: {}",
                pattern.text
            );
            let text = pattern.text.replace('*', " something in between ");
            let causes = explain(text.as_bytes());
            let own = causes.iter().find(|c| c.problem.id == pattern.problem.id);
            let own = own.unwrap_or_else(|| panic!("{text} is not found"));
            // Another row may match a longer fragment, but no row may tie with this one.
            let rivals = causes.iter().filter(|c| c.letters == own.letters).count();
            assert_eq!(rivals, 1, "{text}: {causes:?}");
        }
    }

    #[test]
    fn layers_and_line_breaks_do_not_matter() {
        let plain = "could not select device driver \"\" with capabilities: [[gpu]]";
        assert_eq!(first(plain), Some("docker-no-hook"));
        let escaped = "msg=\"Handler returned error: could not select device driver \\\\\\\"\\\\\\\" with capabilities: [[gpu]]\"";
        assert_eq!(first(escaped), Some("docker-no-hook"));
        let wrapped = "\x1b[31mcould not select dev\r\nice driver \"\" with capabi\r\n  lities: [[gpu]]\x1b[0m";
        assert_eq!(first(wrapped), Some("docker-no-hook"));
        assert_eq!(
            first("Could Not Select Device Driver “” with capabilities: [[gpu, compute]]"),
            Some("docker-no-hook")
        );
    }

    #[test]
    fn distant_parts_are_separate_messages() {
        let far = format!(
            "drop-in config version {} higher than root config version",
            "x".repeat(400)
        );
        assert_eq!(first(&far), None);
        assert_eq!(
            first("drop-in config version 4 higher than root config version 2"),
            Some("containerd-versions")
        );
        // The first start that matches need not be the one that the rest follows.
        let twice = format!(
            "drop-in config version {}; drop-in config version 4 higher than root config version 2",
            "x".repeat(400)
        );
        assert_eq!(first(&twice), Some("containerd-versions"));
    }

    #[test]
    fn an_unknown_text_has_no_explanation() {
        for text in [
            "",
            "hello",
            "Error response from daemon: No such container: web",
            "\\",
            "\x1b[",
            "\u{0}",
        ] {
            assert_eq!(first(text), None, "{text:?}");
        }
    }

    #[test]
    fn only_the_end_of_a_long_log_is_searched() {
        let mut log = "INFO all is well\n".repeat(LIMIT / 8);
        log.push_str("Failed to initialize NVML: Driver/library version mismatch\n");
        assert_eq!(first(&log), Some("driver-mismatch"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_accepted(text in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = explain(&text);
        }

        #[test]
        fn a_message_is_found_in_any_noise(before in "[^*]{0,200}", after in "\\PC{0,200}", n in 0usize..1000) {
            let pattern = &PATTERNS[n % PATTERNS.len()];
            // ` . `: a backslash or an escape would swallow the message's first letter.
            let text = format!("{before} . {}{after}", pattern.text.replace('*', " "));
            prop_assume!(!before.contains('\x1b'));
            let causes = explain(text.as_bytes());
            prop_assert!(causes.iter().any(|c| c.problem.id == pattern.problem.id));
        }
    }
}
