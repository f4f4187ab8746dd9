//! Removes our part from a text that the user has changed since: a three-way merge of the reversal
//! of our change with the user's change.

use std::ops::Range;
use std::time::{Duration, Instant};

use similar::DiffTag;

use crate::edit::diff;

/// The time after which a diff becomes coarser, but is still correct.
const LIMIT: Duration = Duration::from_secs(1);

/// Returns `current` as it would be had the user begun with `before`, not `after`; `None` if the
/// user changed what we had written. The caller must check what the result means: two changes that
/// do not touch can still make no sense together.
pub fn reverse(before: &str, after: &str, current: &str) -> Option<String> {
    let (before, after, current) = (words(before), words(after), words(current));
    let ours = changes(&after, &before);
    let theirs = changes(&after, &current);
    let slides = [Slide::None, Slide::Down, Slide::Up];
    let pairs = slides.iter().flat_map(|a| slides.map(|b| (*a, b)));
    pairs
        .map(|(a, b)| (slid(&ours, &after, a), slid(&theirs, &after, b)))
        .find(|(ours, theirs)| !ours.iter().any(|a| theirs.iter().any(|b| a.meets(b))))
        .map(|(ours, theirs)| merged(&after, [ours, theirs].concat()))
}

fn merged(base: &[&str], mut changes: Vec<LineChange<'_>>) -> String {
    // At the same position, insertions come before deletions.
    changes.sort_by_key(|c| (c.at.start, !c.at.is_empty()));
    let mut text = Vec::with_capacity(base.len());
    let mut done = 0;
    for change in changes {
        text.extend_from_slice(&base[done..change.at.start]);
        text.extend(change.new);
        done = change.at.end;
    }
    text.extend_from_slice(&base[done..]);
    text.concat()
}

/// A range of words of the base, and the words that replace it.
#[derive(Clone)]
struct LineChange<'a> {
    at: Range<usize>,
    new: Vec<&'a str>,
}

/// Where a change begins if several positions are equivalent: of two empty lines, either can be the
/// inserted one.
#[derive(Clone, Copy)]
enum Slide {
    None,
    Down,
    Up,
}

fn slid<'a>(changes: &[LineChange<'a>], base: &[&'a str], slide: Slide) -> Vec<LineChange<'a>> {
    let mut slid = changes.to_vec();
    for n in 0..slid.len() {
        match slide {
            Slide::None => {}
            Slide::Down => {
                let end = changes.get(n + 1).map_or(base.len(), |c| c.at.start);
                while slid[n].at.end < end && slid[n].step(base, true) {}
            }
            Slide::Up => {
                let start = n.checked_sub(1).map_or(0, |n| slid[n].at.end);
                while slid[n].at.start > start && slid[n].step(base, false) {}
            }
        }
    }
    slid
}

impl<'a> LineChange<'a> {
    /// Moves the change one word down or up, if that is the same change.
    fn step(&mut self, base: &[&'a str], down: bool) -> bool {
        let Range { start, end } = self.at;
        let beside = if down { base[end] } else { base[start - 1] };
        if self.at.is_empty() {
            let at_edge = if down {
                self.new.first()
            } else {
                self.new.last()
            };
            if at_edge != Some(&beside) {
                return false;
            }
            if down {
                self.new.rotate_left(1);
            } else {
                self.new.rotate_right(1);
            }
        } else {
            let edge = if down { base[start] } else { base[end - 1] };
            if !self.new.is_empty() || edge != beside {
                return false;
            }
        }
        self.at = if down {
            start + 1..end + 1
        } else {
            start - 1..end - 1
        };
        true
    }

    /// Whether both changes remove the same words, or both insert at the same place.
    fn meets(&self, other: &Self) -> bool {
        let (a, b) = (&self.at, &other.at);
        let inside = a.start.max(b.start) < a.end.min(b.end);
        let put_within = |put: &Range<usize>, r: &Range<usize>| {
            put.is_empty() && r.start < put.start && put.start < r.end
        };
        let both_put = !self.new.is_empty() && !other.new.is_empty();
        let touch = a.start.max(b.start) <= a.end.min(b.end);
        inside || put_within(a, b) || put_within(b, a) || both_put && touch
    }
}

fn changes<'a>(base: &[&'a str], to: &[&'a str]) -> Vec<LineChange<'a>> {
    let operations = diff::operations(base, to, Some(Instant::now() + LIMIT));
    operations
        .iter()
        .filter(|op| op.tag() != DiffTag::Equal)
        .map(|op| LineChange {
            at: op.old_range(),
            new: to[op.new_range()].to_vec(),
        })
        .collect()
}

/// Splits a text into words: letters and digits form words, and every other character is one by
/// itself. Members on the same line are therefore separate.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut start = 0;
    let mut was_letter = false;
    for (at, c) in text.char_indices() {
        let is_letter = c.is_alphanumeric() || c == '_' || c == '-';
        if at > start && !(was_letter && is_letter) {
            words.push(&text[start..at]);
            start = at;
        }
        was_letter = is_letter;
    }
    if start < text.len() {
        words.push(&text[start..]);
    }
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_users_edits_are_kept_byte_for_byte() {
        let (before, after) = ("{\"a\":  1}", "{\"a\":  1, \"ours\": {\"b\": 2}}");
        let merged = |current: &str| reverse(before, after, current);
        assert_eq!(merged(after).as_deref(), Some(before));
        assert_eq!(
            merged("{ \"x\":[ ],\"a\":  3, \"ours\": {\"b\": 2}}").as_deref(),
            Some("{ \"x\":[ ],\"a\":  3}")
        );
        assert_eq!(
            merged("{\"a\":  1, \"ours\": {\"b\": 2}, \"x\": 0}").as_deref(),
            Some("{\"a\":  1, \"x\": 0}")
        );
        assert_eq!(merged("{\"a\":  1, \"ours\": {\"b\": 3}}"), None);
        // A change right beside ours, where either empty line could be the inserted one.
        assert_eq!(
            reverse("k\n[x]\n", "k\n\n[ours]\n[x]\n", "k\nu\n\n[ours]\n[x]\n").as_deref(),
            Some("k\nu\n[x]\n")
        );
    }

    proptest! {
        #[test]
        fn any_three_texts_can_be_merged(a in "[ab\\n]{0,12}", b in "[ab\\n]{0,12}", c in "[ab\\n]{0,12}") {
            let _ = reverse(&a, &b, &c);
            prop_assert_eq!(reverse(&a, &b, &b), Some(a.clone()));
            prop_assert_eq!(reverse(&b, &b, &c), Some(c.clone()));
        }

        #[test]
        fn the_words_of_a_text_make_up_the_text(text: String) {
            prop_assert_eq!(words(&text).concat(), text);
        }
    }
}
