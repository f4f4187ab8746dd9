//! Work side by side where there can be threads, and one after the other where a limit (`RLIMIT_NPROC`,
//! `RLIMIT_AS`, the cgroup's pids.max) leaves none: `std::thread::spawn` would panic.

use std::panic::resume_unwind;
use std::thread::{Builder, Scope, ScopedJoinHandle};

/// Work that goes on, or is yet to be done by whoever wants its result.
pub enum Work<'scope, T, F> {
    /// On a thread.
    Beside(ScopedJoinHandle<'scope, T>),
    /// There can be none.
    Later(F),
}

/// Begins it.
pub fn begin<'scope, T, F>(scope: &'scope Scope<'scope, '_>, work: F) -> Work<'scope, T, F>
where
    T: Send + 'scope,
    F: FnOnce() -> T + Copy + Send + 'scope,
{
    match Builder::new().spawn_scoped(scope, work) {
        Ok(thread) => Work::Beside(thread),
        Err(_) => Work::Later(work),
    }
}

impl<T, F: FnOnce() -> T> Work<'_, T, F> {
    /// Its result. A panic goes on here.
    pub fn end(self) -> T {
        match self {
            Self::Beside(thread) => thread.join().unwrap_or_else(|e| resume_unwind(e)),
            Self::Later(work) => work(),
        }
    }
}
