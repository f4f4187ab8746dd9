//! Why a test cannot run on this machine. A test names its prerequisites ([`has`]) and returns
//! where one is missing; that is printed in one form, although libtest captures what tests
//! print, and recorded for the list that ends `cargo test`.
//!
//! `GPUSETUP_TESTS_REQUIRE=all` makes a skip a failure, but for what the file `excused` lists;
//! `GPUSETUP_TESTS_REQUIRE=root,runc` does so for these needs. `GPUSETUP_SKIPS=FILE` names the
//! file that skips are recorded in.

mod excused;
mod need;
mod record;

use std::panic::Location;

pub use excused::{Excused, excused};
pub use need::Need;
pub use record::{Skip, of_this_run};

/// Whether all of these are here. Where one is not, the test that asks is recorded as skipped.
///
/// # Panics
///
/// Where `GPUSETUP_TESTS_REQUIRE` says that it must be here.
#[must_use]
#[track_caller]
pub fn has(needs: &[Need]) -> bool {
    let missing = needs
        .iter()
        .find_map(|need| Some((*need, need.probe().err()?)));
    if let Some((need, why)) = missing {
        skip(need, &why);
        return false;
    }
    true
}

/// Records that the test cannot run, or not this part of it, for a reason that only the attempt
/// showed.
///
/// # Panics
///
/// Where `GPUSETUP_TESTS_REQUIRE` says that it must run.
#[track_caller]
pub fn skip(need: Need, why: &str) {
    let skip = Skip {
        test: test_name(Location::caller()),
        what: need.name().to_owned(),
        why: why.split_whitespace().collect::<Vec<_>>().join(" "),
    };
    record::add(&skip);
    assert!(
        !is_required(need),
        "{skip}: GPUSETUP_TESTS_REQUIRE says that it must run here, and testenv/skips/excused does not excuse it"
    );
}

fn is_required(need: Need) -> bool {
    let Ok(required) = std::env::var("GPUSETUP_TESTS_REQUIRE") else {
        return false;
    };
    match required.as_str() {
        "all" => excused(need.name()).is_none(),
        list => list.split(',').any(|name| name.trim() == need.name()),
    }
}

/// The program and the test, which libtest makes the name of its thread; another thread of a
/// test's, or one of `--test-threads=1`, is named by the line that asks.
fn test_name(caller: &Location<'_>) -> String {
    let program = record::program();
    match std::thread::current().name() {
        Some(name) if name != "main" => format!("{program}::{name}"),
        _ => format!("{program}, {}:{}", caller.file(), caller.line()),
    }
}
