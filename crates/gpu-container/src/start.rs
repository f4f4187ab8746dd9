//! The entry point, called by the C library instead of Rust's own start-up. That would change what
//! a container inherits (SIGPIPE, closed standard descriptors) and make system calls that we do not
//! need. Also how the program ends if memory runs out or it panics: with one line and no backtrace.
//!
//! The only file of this program with unsafe code.
#![allow(unsafe_code, reason = "main as C calls it, and an allocator")]

use std::alloc::{GlobalAlloc, Layout};
use std::any::Any;
use std::hint::black_box;
use std::panic;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::log;

/// # Safety
/// Called only by the C library, with `count` NUL-terminated strings that live as long as the process.
#[cfg(not(test))]
#[unsafe(no_mangle)]
unsafe extern "C" fn main(
    count: std::ffi::c_int,
    texts: *const *const std::ffi::c_char,
) -> std::ffi::c_int {
    use std::ffi::{CStr, OsStr, OsString};
    use std::os::unix::ffi::OsStrExt;

    gpu_inject::live::start();
    panic::set_hook(Box::new(report_panic));
    let count = usize::try_from(count).unwrap_or_default();
    let mut args = (0..count).map(|n| {
        // SAFETY: `n` is less than `count`, and the strings are NUL-terminated (see above).
        let text = unsafe { CStr::from_ptr(*texts.add(n)) };
        OsString::from(OsStr::from_bytes(text.to_bytes()))
    });
    let name = args.next().unwrap_or_default();
    let exit = crate::applets::run(&name, args.collect());
    log::end();
    exit.number()
}

/// Reports a bug of this program by its source location. Allocates no memory, because the panic may have occurred in
/// the allocator, which then holds its lock.
#[cfg_attr(test, allow(dead_code))]
fn report_panic(what: &panic::PanicHookInfo<'_>) {
    say_fault(what.location(), what.payload());
    process::exit(1);
}

fn say_fault(place: Option<&panic::Location<'_>>, why: &dyn Any) {
    let text = why.downcast_ref::<String>().map(String::as_str);
    let why = text.or_else(|| why.downcast_ref::<&str>().copied());
    let why = why.unwrap_or("unknown");
    let (file, line) = place.map_or(("", 0), |place| (place.file(), place.line()));
    log::say_short(format_args!(
        "gpu-container: a fault of this program, please report it: {file}:{line}: {why}"
    ));
}

/// An allocator that ends the program with a message if memory runs out. The container's start then
/// fails, so nothing is left half done.
pub(crate) struct OrEnd<A>(pub(crate) A);

impl<A> OrEnd<A> {
    fn checked(at: *mut u8, size: usize) -> *mut u8 {
        static ENDS: AtomicBool = AtomicBool::new(false);
        #[cfg(test)]
        tests::ASKED.with(|asked| asked.set(asked.get() + 1));
        if at.is_null() {
            // Printing may allocate memory itself, so only the first failure prints.
            if !ENDS.swap(true, Ordering::Relaxed) {
                log::say_short(format_args!(
                    "gpu-container: out of memory ({size} bytes more)"
                ));
            }
            process::exit(1);
        }
        at
    }
}

// SAFETY: every call is passed on to the inner allocator, and its result is returned unchanged.
unsafe impl<A: GlobalAlloc> GlobalAlloc for OrEnd<A> {
    // SAFETY: our caller fulfils the contract of `GlobalAlloc`, and so does the inner allocator.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller fulfils the contract of `alloc`.
        Self::checked(unsafe { self.0.alloc(layout) }, layout.size())
    }

    // SAFETY: as for `alloc`.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller fulfils the contract of `alloc_zeroed`.
        Self::checked(unsafe { self.0.alloc_zeroed(layout) }, layout.size())
    }

    // SAFETY: as for `alloc`; `at` was returned by this allocator.
    #[inline(never)]
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller fulfils the contract of `realloc`.
        Self::checked(unsafe { self.0.realloc(black_box(at), layout, size) }, size)
    }

    /// Never inlined, and the origin of the memory is hidden from the compiler. The allocator reads its own data in
    /// front of the memory. If the call is inlined beside the allocation, whose bounds the compiler knows, that read
    /// is out of bounds: with LTO, dlmalloc's check became a panic at every call, under the allocator's lock, and the
    /// program hung.
    // SAFETY: as for `realloc`.
    #[inline(never)]
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller fulfils the contract of `dealloc`.
        unsafe { self.0.dealloc(black_box(at), layout) };
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// Number of allocations of this thread.
        pub(super) static ASKED: Cell<usize> = const { Cell::new(0) };
    }

    #[test]
    fn a_failure_is_reported_without_allocating() {
        let asked_by = |work: &dyn Fn()| {
            let before = ASKED.get();
            work();
            ASKED.get() - before
        };
        assert!(asked_by(&|| drop(black_box("x".repeat(9)))) > 0);
        for why in [&"why" as &dyn Any, &"why\n".repeat(999), &7] {
            let place = panic::Location::caller();
            assert_eq!(asked_by(&|| say_fault(Some(place), why)), 0);
        }
    }
}
