//! Facts of the host that several checks share, with the reads that failed while a fact was
//! gathered. The failed reads count for every check that uses the fact, not only for the first.

use std::cell::{OnceCell, RefCell};
use std::ops::Range;

use gpu_host::Root;
use gpu_host::root::FailedRead;

/// Keeps track of the reads that failed for the check that is running.
pub(super) struct FailedReads<'a> {
    root: &'a Root,
    of_facts: RefCell<Vec<Range<usize>>>,
}

impl<'a> FailedReads<'a> {
    pub(super) fn of(root: &'a Root) -> Self {
        Self {
            root,
            of_facts: RefCell::default(),
        }
    }

    pub(super) fn watched<T>(&self, look: impl FnOnce() -> T) -> (T, Vec<FailedRead>) {
        let (value, ranges) = self.ranges_of(look);
        let mut reads: Vec<FailedRead> = Vec::new();
        for range in ranges {
            let of_range = self.root.failed_reads_since(range.start);
            for read in of_range.into_iter().take(range.len()) {
                if !reads.contains(&read) {
                    reads.push(read);
                }
            }
        }
        (value, reads)
    }

    /// Runs `look` and returns which of the root's failed reads belong to it. They also count for
    /// the caller that is being watched around it.
    fn ranges_of<T>(&self, look: impl FnOnce() -> T) -> (T, Vec<Range<usize>>) {
        let before = self.of_facts.replace(Vec::new());
        let start = self.root.failed_read_count();
        let value = look();
        let mut ranges = self.of_facts.replace(before);
        let end = self.root.failed_read_count();
        // The count stops when the log of failed reads is full, but those reads are still listed.
        let end = end.max(start + self.root.failed_reads_since(start).len());
        if end > start {
            ranges.push(start..end);
        }
        self.of_facts.borrow_mut().extend(ranges.iter().cloned());
        (value, ranges)
    }
}

/// A fact, gathered when the first check asks for it.
pub(super) struct Fact<T>(OnceCell<(T, Vec<Range<usize>>)>);

impl<T> Default for Fact<T> {
    fn default() -> Self {
        Self(OnceCell::new())
    }
}

impl<T> Fact<T> {
    pub(super) fn get(&self, failed: &FailedReads<'_>, look: impl FnOnce() -> T) -> &T {
        let is_known = self.0.get().is_some();
        let (value, ranges) = self.0.get_or_init(|| failed.ranges_of(look));
        if is_known {
            failed.of_facts.borrow_mut().extend(ranges.iter().cloned());
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn an_unreadable_fact_fails_every_check_that_needs_it() {
        // The first page of a process is never mapped, so reading its memory from 0 fails.
        let root = Root::open(Path::new("/proc/self")).unwrap();
        let failed = FailedReads::of(&root);
        let (memory, outer) = (Fact::default(), Fact::default());
        let ask = || {
            let of_memory = || *memory.get(&failed, || root.read("/mem").is_ok());
            *outer.get(&failed, of_memory)
        };
        let watched = |look: &dyn Fn() -> bool| failed.watched(look).1;
        assert!(watched(&|| root.read("/comm").is_ok()).is_empty());
        for _ in 0..2 {
            let reads = watched(&ask);
            assert_eq!(reads.len(), 1);
            assert!(reads[0].error.contains("/mem"), "{reads:?}");
        }
        assert_eq!(
            watched(&|| *memory.get(&failed, || unreachable!())).len(),
            1
        );
        assert!(watched(&|| root.read("/none").is_ok()).is_empty());
    }
}
