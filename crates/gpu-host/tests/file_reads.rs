//! How single files of a host are read: driver version, minor numbers of MIG slices, libraries; and which failures are reported.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::Path;

use gpu_host::loaded_version;
use gpu_host::{Capabilities, Capability, Options, Root, discover};

fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let root = Root::open(dir.path()).unwrap();
    (dir, root)
}

#[test]
fn the_loaded_version_is_the_drivers_and_no_other_number() {
    let of = |text: &str| loaded_version(&tree(&[("proc/driver/nvidia/version", text)]).1);
    let line = |version: &str| {
        format!(
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Sun Jul 27\nGCC version: 123.45.6\n"
        )
    };
    for version in ["580.65.06", "470.256", "570.133.20.1"] {
        assert_eq!(of(&line(version)).as_deref(), Some(version));
    }
    for wrong in [
        "58.65.06",
        "580",
        "580.",
        "580..06",
        "580.65.06.1.2",
        "580.65.x",
        "v580.65",
    ] {
        assert_eq!(of(&line(wrong)), None, "{wrong}");
    }
    // If the file exists and has no version, no other place is tried.
    let (_dir, root) = tree(&[
        ("proc/driver/nvidia/version", "GCC version: 123.45.6\n"),
        ("sys/module/nvidia/version", "580.65.06\n"),
    ]);
    assert_eq!(loaded_version(&root), None);
    let of = |text: &str| loaded_version(&tree(&[("sys/module/nvidia/version", text)]).1);
    assert_eq!(of("580.65.06\n").as_deref(), Some("580.65.06"));
    assert_eq!((of("none\n"), of("")), (None, None));
}

/// A slice's minor number comes from its access file, else from the driver's list; without either the slice has no node.
#[test]
fn a_slices_minor_comes_from_its_access_file_or_else_the_list() {
    let gpu = "proc/driver/nvidia/gpus/0000:01:00.0/information";
    let mig = "proc/driver/nvidia/capabilities/gpu0/mig";
    let access = [3, 1].map(|gi| {
        (
            format!("{mig}/gi{gi}/access"),
            format!("{mig}/gi{gi}/ci0/access"),
        )
    });
    let (_dir, root) = tree(&[
        ("proc/driver/nvidia/version", "NVRM version: x 580.65.06\n"),
        (
            "proc/devices",
            "Character devices:\n195 nvidia\n508 nvidia-caps\n",
        ),
        (
            gpu,
            "Model: \t H100\nGPU UUID: \t GPU-1\nDevice Minor: \t 0\n",
        ),
        (&access[0].0, "DeviceFileMinor: 30\nDeviceFileMode: 33060\n"),
        (&access[0].1, "DeviceFileModify: 1\n"),
        (&access[1].0, ""),
        (&access[1].1, ""),
        (
            "proc/driver/nvidia-caps/mig-minors",
            "config 1\ngpu0/gi3/access 99\ngpu0/gi3/ci0/access 31\ngpu1/gi1/access 40\n gpu0/gi1/access 12 \n",
        ),
    ]);
    let inventory = discover(&Options::new(root)).unwrap();
    let slices: Vec<_> = inventory.gpus[0]
        .mig
        .iter()
        .map(|slice| {
            let nodes: Vec<_> = slice.nodes.iter().map(|n| (n.major, n.minor)).collect();
            (
                slice.index,
                slice.gpu_instance,
                slice.compute_instance,
                nodes,
            )
        })
        .collect();
    assert_eq!(
        slices,
        [
            (0, 1, 0, vec![(508, 12)]),
            (1, 3, 0, vec![(508, 30), (508, 31)])
        ]
    );
    let nodes = &inventory.gpus[0].mig[1].nodes;
    assert_eq!(nodes[0].path, Path::new("/dev/nvidia-caps/nvidia-cap30"));
    assert_eq!(nodes[0].mode, 0o444);
    let control = inventory.mig_control;
    assert_eq!(control.config.map(|n| n.minor), Some(1));
    assert_eq!(control.monitor, None);
}

/// A file that exists and cannot be read is recorded as a failure; a missing file is not.
#[test]
fn only_existing_files_that_cannot_be_read_count_as_read_failures() {
    let (dir, root) = tree(&[("file", "x")]);
    symlink("loop", dir.path().join("loop")).unwrap();
    for path in ["/none", "/file/below", "/loop"] {
        assert!(root.read(path).is_err(), "{path}");
    }
    assert!(
        root.read("/").is_err()
            && root.read_link("/file").is_err()
            && root.read_dir("/file").is_err()
    );
    assert!(root.read("/".to_owned() + &"x".repeat(300)).is_err());
    assert_eq!(root.trouble(), None);

    // No address of this process is below a page: a read of its memory fails there.
    let own = Root::open(Path::new("/proc/self")).unwrap();
    assert_eq!(own.trouble(), None);
    assert!(own.read("/mem").is_err());
    let first = own.trouble().unwrap();
    assert!(first.contains("/mem"), "{first}");
    assert!(own.read("/task/self").is_err());
    assert_eq!(own.trouble(), Some(first));
}

/// A check that could not look has to be told from one that found nothing, so reads are told apart, too.
#[test]
fn the_reads_that_failed_are_kept_in_order() {
    let own = Root::open(Path::new("/proc/self")).unwrap();
    assert!(own.read("/none").is_err());
    assert_eq!(own.failed_read_count(), 0);
    assert!(own.read("/mem").is_err());
    let count = own.failed_read_count();
    assert_eq!((count, own.failed_reads_since(count).len()), (1, 0));
    for _ in 0..1000 {
        assert!(own.clone().read("/mem").is_err());
    }
    let later = own.failed_reads_since(count);
    assert!(
        later
            .iter()
            .all(|read| read.error.contains("/mem") && !read.is_denied)
    );
    assert!((1..1000).contains(&later.len()), "{}", later.len());
    // However many there were: one more is seen.
    let count = own.failed_read_count();
    assert!(own.read("/mem").is_err());
    assert!(!own.failed_reads_since(count).is_empty());
}

#[test]
fn a_file_is_read_whole_or_not_at_all() {
    let (dir, root) = tree(&[("five", "12345"), ("empty", "")]);
    fs::write(dir.path().join("bytes"), b"a\xff").unwrap();
    assert_eq!(root.read_limited("/five", 5).unwrap(), b"12345");
    let long = root.read_limited("five", 4).unwrap_err();
    assert_eq!(long.kind(), ErrorKind::FileTooLarge);
    assert!(long.to_string().contains("longer than 4 bytes"), "{long}");
    assert_eq!(root.read("/empty").unwrap(), b"");
    assert_eq!(
        root.read_to_string("/bytes").unwrap_err().kind(),
        ErrorKind::InvalidData
    );
    assert_eq!(
        root.host_path("/five"),
        dir.path().canonicalize().unwrap().join("five")
    );
    assert_eq!(
        (root.is_host(), Root::host().unwrap().is_host()),
        (false, true)
    );
    // Files in procfs report a size of 0.
    let proc_self = Root::open(Path::new("/proc/self")).unwrap();
    assert!(
        proc_self
            .read_to_string("/status")
            .unwrap()
            .contains("Pid:")
    );
}

#[test]
fn a_deleted_file_has_no_path() {
    let (dir, root) = tree(&[("here (deleted)", "x"), ("a/b", "y")]);
    assert_eq!(
        root.canonicalize("/here (deleted)").unwrap(),
        Path::new("/here (deleted)")
    );
    assert_eq!(root.canonicalize("/a/../a/./b").unwrap(), Path::new("/a/b"));
    fs::remove_file(dir.path().join("a/b")).unwrap();
    assert!(root.canonicalize("/a/b").is_err() && !root.exists("/a/b"));
}

/// The values of `NVIDIA_DRIVER_CAPABILITIES` that images use, and operations on sets of them.
#[test]
fn capabilities_parse_from_their_words_and_combine_as_sets() {
    let words = "compute,compat32,graphics,utility,video,display,ngx";
    assert_eq!(Capabilities::ALL.to_string(), words);
    for (word, capability) in words.split(',').zip(Capability::ALL) {
        assert_eq!(Capability::from_word(word), Some(capability), "{word}");
        let one = Capabilities::of(&[capability]);
        let others = Capability::ALL.into_iter().filter(|c| *c != capability);
        let rest = others.fold(Capabilities::NONE, Capabilities::with);
        assert!(one.has(capability) && !rest.has(capability), "{word}");
        assert!(!one.is_empty() && !one.intersects(rest) && one.intersects(Capabilities::ALL));
        assert_eq!(
            (one.and(rest), one.or(rest)),
            (Capabilities::NONE, Capabilities::ALL)
        );
        assert_eq!((one.and(Capabilities::ALL), one.or(one)), (one, one));
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(text, format!("[\"{word}\"]"));
        assert_eq!(serde_json::from_str::<Capabilities>(&text).unwrap(), one);
        assert_eq!(format!("{one:?}"), format!("Capabilities({word})"));
    }
    for other in ["", "all", "Compute", "compute "] {
        assert_eq!(Capability::from_word(other), None, "{other}");
    }
    assert!(Capabilities::NONE.is_empty() && Capabilities::NONE.to_string().is_empty());
}

/// Opening fails if the path leads to another type of file.
#[test]
fn a_directory_cannot_be_opened_as_a_file_nor_a_file_as_a_directory() {
    let (dir, root) = tree(&[("a/b", "")]);
    symlink("a", dir.path().join("link")).unwrap();
    assert!(root.open_dir("/a").is_ok() && root.open_dir("/link").is_ok());
    assert_eq!(
        root.open_dir("/a/b").unwrap_err().kind(),
        ErrorKind::NotADirectory
    );
    assert!(root.open_file("/a/b").is_ok() && root.open_file("/a").is_err());
    assert_eq!(root.read_link("/link").unwrap(), Path::new("a"));
    assert_eq!(
        root.read_link("/a").unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}
