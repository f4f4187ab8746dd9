//! The hooks of `nvidia-cdi-hook`, with the same names and flags (nvidia-container-toolkit 1.20,
//! `cmd/nvidia-cdi-hook`). Each acts only within the root file system.

use std::io;
use std::path::{Path, PathBuf};

use gpu_inject::live::OwnMounts;
use gpu_inject::rootfs::{Linked, Rootfs};
use gpu_inject::{CudaCompat, Error, Excerpt, live, oci, rootfs_edits};

use super::flags::Flags;
use super::root;
use crate::log;
use crate::oci_bundle::HookState;

/// Runs the hook with this name; `None` if there is none.
pub(super) fn run(name: &str, args: &[String], mounts: OwnMounts) -> Option<Result<(), Error>> {
    let known: &[&str] = match name {
        "create-symlinks" => &["link"],
        // ldconfig-path has no effect, because no ldconfig is run: the cache is written directly.
        "update-ldcache" => &["folder", "ldconfig-path"],
        "enable-cuda-compat" => &[
            "host-driver-version",
            "host-cuda-version",
            "cuda-compat-container-root",
        ],
        "chmod" => &["path", "mode"],
        "disable-device-node-modification" | "update-application-profile" | "noop" => &[],
        _ => return None,
    };
    Some(Flags::read(name, args, known).and_then(|flags| carry_out(name, &flags, mounts)))
}

fn carry_out(name: &str, flags: &Flags, mounts: OwnMounts) -> Result<(), Error> {
    if name == "noop" {
        HookState::pass_over();
        return Ok(());
    }
    let rootfs = root::open(&flags.state()?, None, mounts)?;
    let done = match name {
        "create-symlinks" => flags
            .all("link")
            .try_for_each(|link| symlink(&rootfs, link)),
        "update-ldcache" => {
            let folders: Vec<PathBuf> = flags.all("folder").map(PathBuf::from).collect();
            rootfs_edits::refresh_cache(&rootfs, &folders)
        }
        "enable-cuda-compat" => enable_cuda_compat(&rootfs, flags),
        "update-application-profile" => rootfs_edits::write_profile(&rootfs, None, true),
        "disable-device-node-modification" => live::forbid_device_nodes(&rootfs),
        _ => chmod(&rootfs, flags),
    };
    log::notes(&rootfs.notes());
    done
}

/// `target::link`. A file or directory that the image has there is kept, with a warning; nvidia-cdi-hook replaces a
/// file and fails for a directory.
fn symlink(rootfs: &Rootfs, spec: &str) -> Result<(), Error> {
    let parts: Vec<&str> = spec.split("::").collect();
    let [target, link] = parts[..] else {
        let why = format!(
            "create-symlinks: {:?} is not TARGET::LINK",
            Excerpt::of(spec)
        );
        return Err(Error::State(why.into()));
    };
    if rootfs.symlink(Path::new(link), Path::new(target))? == Linked::Occupied {
        log::warning(format_args!(
            "the image has a file at {}, which stays in place of a link to {}",
            Excerpt::of(link),
            Excerpt::of(target)
        ));
    }
    Ok(())
}

fn enable_cuda_compat(rootfs: &Rootfs, flags: &Flags) -> Result<(), Error> {
    let driver = flags.last("host-driver-version").unwrap_or_default();
    let cuda = flags.last("host-cuda-version").and_then(oci::version_pair);
    if driver.is_empty() && cuda.is_none() {
        return Ok(());
    }
    let compat = CudaCompat {
        driver: driver.to_owned(),
        cuda,
        root: flags.last("cuda-compat-container-root").map(PathBuf::from),
    };
    rootfs_edits::note_cuda_compat(rootfs, &compat)
}

/// Changes modes of files and directories of the image, never of a target outside it. A path that does not exist is
/// skipped, as in nvidia-cdi-hook.
fn chmod(rootfs: &Rootfs, flags: &Flags) -> Result<(), Error> {
    let mode = flags.last("mode").unwrap_or_default();
    let mode = u32::from_str_radix(mode, 8).map_err(|_| {
        Error::State(format!("chmod: {:?} is no octal mode", Excerpt::of(mode)).into())
    })?;
    flags.all("path").map(Path::new).try_for_each(|path| {
        match rootfs.set_mode(path, mode) {
            // Specs name directories that only some containers have, such as /dev/dri.
            Err(Error::Rootfs { source, .. })
                if source.kind() == io::ErrorKind::NotFound
                    && rootfs.link_metadata(path).is_none() =>
            {
                Ok(())
            }
            done => done,
        }
    })
}
