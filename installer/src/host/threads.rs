//! Runs work in parallel, or one after the other if a limit (`RLIMIT_NPROC`, `RLIMIT_AS`, the
//! cgroup's pids.max) allows no more threads: `std::thread::spawn` would panic then.

use std::panic::resume_unwind;
use std::thread::{Builder, Scope, ScopedJoinHandle};

/// Work that runs on a thread, or that whoever wants its result does later.
pub enum Work<'scope, T, F> {
    /// Running on a thread.
    Beside(ScopedJoinHandle<'scope, T>),
    /// To be done later, because no thread could be started.
    Later(F),
}

/// Starts the work on a thread if possible.
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
    /// The result of the work. A panic of its thread continues here.
    pub fn end(self) -> T {
        match self {
            Self::Beside(thread) => thread.join().unwrap_or_else(|e| resume_unwind(e)),
            Self::Later(work) => work(),
        }
    }
}
