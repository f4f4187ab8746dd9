//! The reads of a [`Root`](super::Root) that failed: what is there and could not be read.

use std::sync::{Mutex, PoisonError};

/// More are counted and not kept.
const KEPT: usize = 256;

/// Something that is there and could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRead {
    /// The path and what the system said.
    pub error: String,
    /// This user may not read it, and root may.
    pub is_denied: bool,
}

/// In the order in which they failed.
#[derive(Debug, Default)]
pub(super) struct ReadFailures(Mutex<Vec<FailedRead>>);

impl ReadFailures {
    pub(super) fn add(&self, read: FailedRead) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The last place stands for all later ones, so that none is lost without a trace.
        if all.len() == KEPT {
            all.pop();
        }
        all.push(read);
    }

    pub(super) fn count(&self) -> usize {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.len().min(KEPT - 1)
    }

    pub(super) fn since(&self, count: usize) -> Vec<FailedRead> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(count..).unwrap_or_default().to_vec()
    }
}
