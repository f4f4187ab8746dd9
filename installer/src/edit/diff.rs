//! Finds what two texts differ in, word by word or line by line.
//!
//! The library's algorithms are generic, and each use of them is compiled anew. They are used here
//! alone, for one type.

use std::time::Instant;

use similar::DiffOp;
use similar::algorithms::{Capture, Compact, Replace, myers};

/// The steps from one list of words to another. After the deadline they become coarser, but are
/// still correct.
pub(super) fn steps(before: &[&str], after: &[&str], deadline: Option<Instant>) -> Vec<DiffOp> {
    let mut hook = Compact::new(Replace::new(Capture::new()), before, after);
    let (old, new) = (0..before.len(), 0..after.len());
    let Ok(()) = myers::diff_deadline(&mut hook, before, old, after, new, deadline);
    hook.into_inner().into_inner().into_ops()
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Both texts have it.
    Kept,
    /// Only the text before has it.
    Removed,
    /// Only the text after has it.
    Added,
}

/// A line of a diff, with its line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiffLine<'a> {
    /// What became of it.
    pub fate: Fate,
    /// The line.
    pub text: &'a str,
}

/// The changed lines in groups, each with so many kept lines around it.
pub fn lines<'a>(before: &'a str, after: &'a str, around: usize) -> Vec<Vec<DiffLine<'a>>> {
    let (before, after) = (lines_of(before), lines_of(after));
    let groups = similar::group_diff_ops(steps(&before, &after, None), around);
    let groups = groups.iter().map(|group| {
        let mut lines = Vec::new();
        for step in group {
            let of = |fate, texts: &[&'a str]| {
                texts
                    .iter()
                    .map(move |&text| DiffLine { fate, text })
                    .collect::<Vec<_>>()
            };
            let (old, new) = (&before[step.old_range()], &after[step.new_range()]);
            if matches!(step, DiffOp::Equal { .. }) {
                lines.extend(of(Fate::Kept, old));
            } else {
                lines.extend(of(Fate::Removed, old));
                lines.extend(of(Fate::Added, new));
            }
        }
        lines
    });
    groups.collect()
}

fn lines_of(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn changes_that_lie_apart_are_two_groups() {
        let before = "a\nb\nc\nd\ne\nf\ng\n";
        let groups = lines(before, "a\nB\nc\nd\ne\nf\ng", 1);
        let shown: Vec<String> = groups
            .iter()
            .map(|group| {
                let sign = |l: &DiffLine| match l.fate {
                    Fate::Kept => ' ',
                    Fate::Removed => '-',
                    Fate::Added => '+',
                };
                let lines = group
                    .iter()
                    .map(|l| format!("{}{}", sign(l), l.text.trim_end()));
                lines.collect::<Vec<_>>().join("|")
            })
            .collect();
        assert_eq!(shown, [" a|-b|+B| c", " f|-g|+g"]);
        assert!(lines(before, before, 1).is_empty());
    }

    proptest! {
        #[test]
        fn a_diff_has_both_texts(before in "[abc\\n]{0,40}", after in "[abc\\n]{0,40}") {
            let all = lines(&before, &after, 1000).concat();
            let text = |without: Fate| -> String {
                all.iter().filter(|l| l.fate != without).map(|l| l.text).collect()
            };
            if before != after {
                prop_assert_eq!(&text(Fate::Added), &before);
                prop_assert_eq!(&text(Fate::Removed), &after);
            }
        }
    }
}
