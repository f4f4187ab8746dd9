//! The description of a hostile image with the expected outcome, and functions that make parts of one.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::Value;

/// The directory in which an image is made, and the host files that it attacks.
pub(crate) struct Scene {
    /// The root file system; busybox, /etc and /tmp exist.
    pub(crate) rootfs: PathBuf,
    /// The host's tree that must not change.
    pub(crate) canary: PathBuf,
    /// Directory of the driver's libraries, without the first slash.
    pub(crate) libraries: String,
    /// Version of the driver.
    pub(crate) version: String,
}

/// The expected result of starting a container with the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It starts, and its loader cache has the library.
    Starts,
    /// It starts; whether it finds the library does not matter.
    StartsSomehow,
    /// It starts or is refused, depending on the runtime.
    Either,
    /// It is refused.
    Refused,
    /// It starts under runc and has the library; crun 1.8 itself cannot mount behind a dangling link,
    /// nor at /var/run if that is a link.
    StartsUnderRunc,
    /// It is refused under runc; under crun it starts, since crun makes the mount writable again.
    RefusedUnderRunc,
    /// It starts with the prestart hook; the other ways need device nodes that this machine lacks.
    StartsByPrestart,
}

/// A row of the tables.
pub(crate) struct Image {
    pub(crate) name: &'static str,
    /// The CVE whose mechanism the image uses, if any.
    pub(crate) cve: &'static str,
    pub(crate) make: fn(&Scene),
    /// Variables of the image; `{canary}` is replaced by the path of the canary.
    pub(crate) env: &'static [(&'static str, &'static str)],
    /// Edits the container's config.json. Images with this are used only in this test's runs, not
    /// exported; a function that does nothing marks an image that a tar cannot hold.
    pub(crate) config: Option<fn(&mut Value, &Scene)>,
    pub(crate) outcome: Outcome,
}

impl Scene {
    /// The path of a file in the image, whose parent directories are made.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        let path = self.rootfs.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// Path of the driver's library that is mounted.
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

    /// Makes a device node of the kernel's memory, which nobody must open.
    pub(crate) fn device(&self, path: &str) {
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&self.at(path), SFlag::S_IFCHR, mode, makedev(1, 1)).unwrap();
    }

    /// `path` preceded by enough `../` to reach the host's root.
    pub(crate) fn far_up(path: &Path) -> PathBuf {
        Path::new("../../../../../../../../../..").join(path.strip_prefix("/").unwrap())
    }

    /// Makes a program that leaves a file on the host, or in the image, when it runs.
    pub(crate) fn evil_program(&self, path: &str) {
        let canary = self.canary.display();
        let script = format!(
            "#!/bin/sh\necho ran >{canary}/evil-program\necho ran >/evil-program\n\
             for fd in /proc/self/fd/* /proc/$PPID/exe; do echo evil >$fd; done\n"
        );
        self.program(path, &script);
        // Without /bin/sh in the image the script could run only on the host.
        if fs::symlink_metadata(self.at("bin/sh")).is_err() {
            self.link("bin/sh", "busybox");
        }
    }

    /// Makes a library that leaves a file on the host when it is loaded.
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
