//! Facts of the host that several checks share, with the reads that failed while a fact was
//! gathered. The failed reads count for every check that uses the fact, not only for the first.

use std::cell::{OnceCell, RefCell};
use std::ops::Range;

use gpu_host::Root;
use gpu_host::root::FailedRead;

/// Records what the running check could not examine.
pub(super) struct FailedReads<'a> {
    root: &'a Root,
    /// Other failures: a text that cannot be parsed, a query without an answer.
    others: RefCell<Vec<String>>,
    of_facts: RefCell<Vec<FailureSpan>>,
}

/// Which failures belong to a fact: a range of the root's list, and one of the others.
#[derive(Clone, Default)]
struct FailureSpan {
    reads: Range<usize>,
    others: Range<usize>,
}

impl<'a> FailedReads<'a> {
    pub(super) fn of(root: &'a Root) -> Self {
        Self {
            root,
            others: RefCell::default(),
            of_facts: RefCell::default(),
        }
    }

    /// Records why something could not be examined.
    pub(super) fn note(&self, why: String) {
        self.others.borrow_mut().push(why);
    }

    /// The result of `look`, and why it could not examine everything.
    pub(super) fn watched<T>(&self, look: impl FnOnce() -> T) -> (T, Vec<FailedRead>) {
        let (value, spans) = self.spans_of(look);
        let mut failed: Vec<FailedRead> = Vec::new();
        for span in spans {
            let reads = self.root.failed_reads_since(span.reads.start);
            let reads = reads.into_iter().take(span.reads.len());
            let others = self.others.borrow();
            let others = others[span.others].iter().map(|why| FailedRead {
                error: why.clone(),
                is_denied: false,
            });
            for read in reads.chain(others) {
                if !failed.contains(&read) {
                    failed.push(read);
                }
            }
        }
        (value, failed)
    }

    /// Runs `look` and returns which failures belong to it. They also count for an enclosing watch.
    fn spans_of<T>(&self, look: impl FnOnce() -> T) -> (T, Vec<FailureSpan>) {
        let before = self.of_facts.replace(Vec::new());
        let (start, start_others) = (self.root.failed_read_count(), self.others.borrow().len());
        let value = look();
        let mut spans = self.of_facts.replace(before);
        let end = self.root.failed_read_count();
        // The count stops when the log of failed reads is full, but those reads are still listed.
        let end = end.max(start + self.root.failed_reads_since(start).len());
        let end_others = self.others.borrow().len();
        if end > start || end_others > start_others {
            spans.push(FailureSpan {
                reads: start..end,
                others: start_others..end_others,
            });
        }
        self.of_facts.borrow_mut().extend(spans.iter().cloned());
        (value, spans)
    }
}

/// A fact, gathered when the first check needs it.
pub(super) struct Fact<T>(OnceCell<(T, Vec<FailureSpan>)>);

impl<T> Default for Fact<T> {
    fn default() -> Self {
        Self(OnceCell::new())
    }
}

impl<T> Fact<T> {
    pub(super) fn get(&self, failed: &FailedReads<'_>, look: impl FnOnce() -> T) -> &T {
        let is_known = self.0.get().is_some();
        let (value, spans) = self.0.get_or_init(|| failed.spans_of(look));
        if is_known {
            failed.of_facts.borrow_mut().extend(spans.iter().cloned());
        }
        value
    }

    /// The fact itself; `None` if no check has needed it.
    pub(super) fn into_inner(self) -> Option<T> {
        self.0.into_inner().map(|(value, _)| value)
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
        // Other failures count in the same way.
        let text = Fact::default();
        let ask = || {
            *text.get(&failed, || {
                failed.note("not TOML".into());
                true
            })
        };
        for _ in 0..2 {
            let reasons = watched(&ask);
            assert_eq!(reasons.len(), 1);
            assert_eq!(reasons[0].error, "not TOML");
        }
    }
}
