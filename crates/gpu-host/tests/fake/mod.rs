//! Makes hosts with the fake driver, for the tests of this crate.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "shared by test programs that use parts of it"
)]

use std::fs;
use std::path::Path;

use fake_driver::describe::Description;
use fake_driver::install::{self, Places};
use gpu_host::{Inventory, Options, Root, discover};
use skips::Need;

pub const VERSION: &str = "580.65.06";

/// A host with that driver; `None` if this process may not make device nodes.
pub fn host(description: &Description, driver_root: &str) -> Option<tempfile::TempDir> {
    if !skips::has(&[Need::Root, Need::DeviceNodes]) {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let places = Places {
        root: dir.path().to_owned(),
        driver_root: driver_root.into(),
        artifacts: None,
    };
    fs::create_dir_all(dir.path().join(driver_root.trim_start_matches('/'))).unwrap();
    install::install(&places, description, false).unwrap();
    Some(dir)
}

pub fn options(dir: &tempfile::TempDir) -> Options {
    Options::new(Root::open(dir.path()).unwrap())
}

pub fn discovered(dir: &tempfile::TempDir) -> Inventory {
    discover(&options(dir)).unwrap()
}

pub fn paths<'a>(nodes: impl IntoIterator<Item = &'a gpu_host::DeviceNode>) -> Vec<&'a str> {
    nodes
        .into_iter()
        .map(|n| n.path.to_str().unwrap())
        .collect()
}

pub fn file<'a>(inventory: &'a Inventory, path: &str) -> Option<&'a gpu_host::DriverFile> {
    let files = &inventory.driver.as_ref().unwrap().files;
    files.iter().find(|f| f.path == Path::new(path))
}
