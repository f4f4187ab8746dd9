//! Records the reads of a [`Root`](super::Root) that failed although the file exists.

use std::sync::{Mutex, PoisonError};

/// Maximum number of failures that are kept. Later ones are only counted.
const KEPT: usize = 256;

/// A file that exists but could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRead {
    /// The path and the system's error.
    pub error: String,
    /// Only this user lacks permission; root may read the file.
    pub is_denied: bool,
}

/// In the order in which they failed.
#[derive(Debug, Default)]
pub(super) struct ReadFailures(Mutex<Vec<FailedRead>>);

impl ReadFailures {
    pub(super) fn add(&self, read: FailedRead) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The last place always holds the latest failure, so that a full list still shows it.
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
