//! The differences between two sequences of texts, such as the lines of two files.
//!
//! The library's own functions can use any of its algorithms, and the program contains each algorithm again for each
//! type that a function is called with: 0.9 MB for three callers. This module is the only caller, for one type.

use std::ops::Range;
use std::time::Instant;

use similar::algorithms::{Capture, Compact, Replace, myers};
use similar::{Change, DiffOp, DiffableStr, group_diff_ops};

/// The operations that turn the old sequence of words into the new one. After `until` a diff becomes coarser, but is
/// still correct.
pub fn operations(old: &[&str], new: &[&str], until: Option<Instant>) -> Vec<DiffOp> {
    let whole = |words: &[&str]| -> Range<usize> { 0..words.len() };
    let mut hook = Compact::new(Replace::new(Capture::new()), old, new);
    // A `Capture` does not fail.
    let _ = myers::diff_deadline(&mut hook, old, whole(old), new, whole(new), until);
    hook.into_inner().into_inner().into_ops()
}

/// Two texts, compared line by line.
pub struct LineDiff<'a> {
    old: Vec<&'a str>,
    new: Vec<&'a str>,
}

impl<'a> LineDiff<'a> {
    /// Splits two texts into lines.
    pub fn new(old: &'a str, new: &'a str) -> Self {
        Self {
            old: old.tokenize_lines(),
            new: new.tokenize_lines(),
        }
    }

    /// The changed lines, in groups with this number of unchanged lines around each.
    pub fn groups(&self, context: usize) -> Vec<Vec<Change<&'a str>>> {
        let operations = operations(&self.old, &self.new, None);
        let groups = group_diff_ops(operations, context).into_iter();
        let lines = |group: Vec<DiffOp>| {
            let lines = group
                .iter()
                .flat_map(|op| op.iter_changes(&self.old, &self.new));
            lines.collect()
        };
        groups.map(lines).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use similar::TextDiff;

    use super::*;

    /// The same format as the library's own display of a difference between two texts.
    fn by_library(old: &str, new: &str, context: usize) -> Vec<Vec<String>> {
        let diff = TextDiff::from_lines(old, new);
        let line = |change: Change<&str>| format!("{:?} {:?}", change.tag(), change.value());
        let lines = |group: &Vec<DiffOp>| {
            let changes = group.iter().flat_map(|op| diff.iter_changes(op));
            changes.map(line).collect()
        };
        diff.grouped_ops(context).iter().map(lines).collect()
    }

    fn ours(old: &str, new: &str, context: usize) -> Vec<Vec<String>> {
        let line = |change: &Change<&str>| format!("{:?} {:?}", change.tag(), change.value());
        let groups = LineDiff::new(old, new).groups(context);
        groups
            .iter()
            .map(|group| group.iter().map(line).collect())
            .collect()
    }

    #[test]
    fn long_texts_are_compared_as_the_library_does() {
        let text = |every: usize| -> String {
            let word = |n: usize| {
                if n.is_multiple_of(every) {
                    n / 7
                } else {
                    n % 5
                }
            };
            (0..400).map(|n| format!("{}\n", word(n))).collect()
        };
        let (old, new) = (text(3), text(4));
        assert!(!ours(&old, &new, 2).is_empty());
        assert_eq!(ours(&old, &new, 2), by_library(&old, &new, 2));
    }

    proptest! {
        #[test]
        fn texts_are_compared_as_the_library_does(old in "[ab\\r\\n]{0,40}", new in "[ab\\r\\n]{0,40}") {
            prop_assert_eq!(ours(&old, &new, 2), by_library(&old, &new, 2));
        }
    }
}
