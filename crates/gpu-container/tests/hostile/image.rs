//! What a hostile image is, and the parts they are made of.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::Value;

/// Where an image is made, and what it is aimed at.
pub(crate) struct Scene {
    /// The root file system; a busybox, /etc and /tmp are there.
    pub(crate) rootfs: PathBuf,
    /// The tree of the host's that must not change.
    pub(crate) canary: PathBuf,
    /// Directory of the driver's libraries, without the first slash.
    pub(crate) libraries: String,
    /// Version of the driver.
    pub(crate) version: String,
}

/// What becomes of a container of that image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It starts, and has the library in its cache.
    Starts,
    /// It starts; whether it finds the library is its own affair.
    StartsSomehow,
    /// It starts or is refused, as the runtime likes.
    Either,
    /// It is refused.
    Refused,
    /// It starts under runc and has the library; crun 1.8 itself mounts nothing behind a link
    /// that leads nowhere, nor at one that is /var/run.
    StartsUnderRunc,
    /// It is refused under runc; crun makes the mount writable again.
    RefusedUnderRunc,
    /// It starts by way of the prestart hook; by the others the runtime wants nodes of the
    /// host's, which this host has not.
    StartsByPrestart,
}

/// A row of the tables.
pub(crate) struct Image {
    pub(crate) name: &'static str,
    /// The flaw of the peer's whose mechanism it uses, where it is one of those.
    pub(crate) cve: &'static str,
    pub(crate) make: fn(&Scene),
    /// Variables of the image; `{canary}` is the tree's path.
    pub(crate) env: &'static [(&'static str, &'static str)],
    /// What is not the image's but the configuration's, or nothing where the image is not one
    /// that a tar can hold; then it is for our own runs only.
    pub(crate) config: Option<fn(&mut Value, &Scene)>,
    pub(crate) outcome: Outcome,
}

impl Scene {
    /// A place in the image, its parents made.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        let path = self.rootfs.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// The library that gets mounted.
    pub(crate) fn library(&self) -> PathBuf {
        self.at(&format!("{}/libcuda.so.{}", self.libraries, self.version))
    }

    pub(crate) fn beside_library(&self, name: &str) -> PathBuf {
        self.at(&format!("{}/{name}", self.libraries))
    }

    pub(crate) fn link(&self, path: &str, target: impl AsRef<Path>) {
        let at = self.at(path);
        let _ = fs::remove_dir_all(&at);
        symlink(target, at).unwrap();
    }

    pub(crate) fn file(&self, path: &str, content: impl AsRef<[u8]>) {
        fs::write(self.at(path), content).unwrap();
    }

    pub(crate) fn program(&self, path: &str, script: &str) {
        self.file(path, script);
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn fifo(&self, path: &str) {
        nix::unistd::mkfifo(&self.at(path), Mode::from_bits_truncate(0o666)).unwrap();
    }

    pub(crate) fn socket(&self, path: &str) {
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&self.at(path), SFlag::S_IFSOCK, mode, 0).unwrap();
    }

    /// A device of the kernel's memory: whoever opens it has lost.
    pub(crate) fn device(&self, path: &str) {
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&self.at(path), SFlag::S_IFCHR, mode, makedev(1, 1)).unwrap();
    }

    /// `../` often enough to be at the host's root, then `path` below it.
    pub(crate) fn far_up(path: &Path) -> PathBuf {
        Path::new("../../../../../../../../../..").join(path.strip_prefix("/").unwrap())
    }

    /// A program that shows on the host, or in the image, that it was run.
    pub(crate) fn evil_program(&self, path: &str) {
        let canary = self.canary.display();
        let script = format!(
            "#!/bin/sh\necho ran >{canary}/evil-program\necho ran >/evil-program\n\
             for fd in /proc/self/fd/* /proc/$PPID/exe; do echo evil >$fd; done\n"
        );
        self.program(path, &script);
        // Without it the program would run nowhere but on the host.
        if fs::symlink_metadata(self.at("bin/sh")).is_err() {
            self.link("bin/sh", "busybox");
        }
    }

    /// A library that shows on the host that it was loaded.
    pub(crate) fn evil_library(&self, path: &str) {
        let source = format!(
            "#include <fcntl.h>\n__attribute__((constructor)) static void loaded(void)\n\
             {{ open(\"{}/evil-library\", O_CREAT | O_WRONLY, 0644); }}\n\
             void gconv_init(void) {{ loaded(); }} void gconv(void) {{}}\n",
            self.canary.display()
        );
        let from = self.at("tmp/evil.c");
        fs::write(&from, source).unwrap();
        let made = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(self.at(path))
            .arg(&from)
            .status();
        assert!(made.unwrap().success());
        fs::remove_file(from).unwrap();
    }
}
