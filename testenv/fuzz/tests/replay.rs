//! Runs every seed, and every input that once crashed a target, through its target.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use gpusetup_fuzz::{TARGETS, clean_up};

#[test]
fn no_earlier_crash_comes_back() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut directories = 0;
    for target in TARGETS {
        let files = fs::read_dir(corpus.join(target.name)).unwrap();
        let mut inputs: Vec<_> = files.map(|f| f.unwrap().path()).collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{} has no seed", target.name);
        for input in inputs {
            println!("{}", input.display());
            (target.run)(&fs::read(&input).unwrap());
        }
        directories += 1;
    }
    clean_up();
    assert_eq!(fs::read_dir(corpus).unwrap().count(), directories);
}
