//! Tests of how a Docker keeps what it has read of its configuration.

use std::fs;
use std::path::Path;

use super::*;

/// Between two reads, every caller gets the same answer, even if somebody writes the file
/// meanwhile.
#[test]
fn a_read_file_is_cached_until_the_next_read() {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("usr/sbin/dockerd", "");
    write("etc/docker/daemon.json", "{\"pidfile\": \"/run/one.pid\"}");
    let host = Host::open(dir.path(), Path::new("/")).unwrap();
    let mut docker = Docker::of_system(&host).unwrap();
    let config = Path::new(CONFIG);
    write("etc/docker/daemon.json", "{\"pidfile\": \"/run/two.pid\"}");
    assert_eq!(docker.pidfile(), Path::new("/run/one.pid"));
    assert!(docker.text_of(config).unwrap().contains("one"));
    docker.read_again(&host);
    assert_eq!(docker.pidfile(), Path::new("/run/two.pid"));
    assert!(docker.text_of(config).unwrap().contains("two"));
    assert_eq!(docker.text_of(Path::new("/etc/other")), None);
    // The reason why a file cannot be used is kept as well, and returned each time.
    write("etc/docker/daemon.json", "{broken");
    docker.read_again(&host);
    let wanted = SetupOptions::default();
    let refused = || docker.changes(&host, &wanted).unwrap_err();
    assert_eq!(refused().to_string(), refused().to_string());
    assert_eq!(refused().exit().number(), 1);
    assert!(refused().fix().unwrap().contains("strict JSON"));
    assert_eq!(docker.text_of(config), None);
}
