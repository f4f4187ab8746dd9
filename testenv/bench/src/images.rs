//! The root file systems of the images, made once and kept.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use fake_driver::elf::shared_object;

use crate::case::Image;
use crate::host::{make_dir, write};
use crate::program::{context, run};

const BUSYBOX: &str = "/bin/busybox";
/// Libraries of the image that has many, and the number of directories that they are in besides the usual one.
pub(crate) const MANY: u32 = 20_000;
const DIRECTORIES: u32 = 10;

/// Makes the image below `work/images`, from a tar archive of a Debian root file system.
pub(crate) fn make(work: &Path, image: Image, debian: &Path) -> Result<(), String> {
    let images = work.join("images");
    let at = images.join(image.to_string());
    if at.exists() {
        return Ok(());
    }
    let part = images.join(format!("{image}.part"));
    let _ = fs::remove_dir_all(&part);
    make_dir(&part)?;
    if image == Image::Tiny {
        for dir in ["etc", "tmp", "proc", "sys", "dev"] {
            make_dir(&part.join(dir))?;
        }
    } else {
        run(Command::new("tar")
            .arg("-C")
            .arg(&part)
            .arg("-xf")
            .arg(debian))?;
    }
    // Neither the host's ldconfig cache nor one of the image: Debian's images have none.
    let _ = fs::remove_file(part.join("var/cache/ldconfig/aux-cache"));
    if image == Image::Many {
        libraries(&part)?;
    }
    // The same program in all images.
    make_dir(&part.join("bin"))?;
    let busybox = part.join("bin/busybox");
    fs::copy(BUSYBOX, &busybox).map_err(context("copy busybox-static into the image"))?;
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&busybox, mode).map_err(context("make busybox a program"))?;
    fs::rename(&part, &at).map_err(context("put the image in its place"))
}

/// Half of them in the usual directory, half in ten of the image's own, as vendors have them below /opt.
fn libraries(root: &Path) -> Result<(), String> {
    let mut list = String::new();
    for n in 0..DIRECTORIES {
        let dir = format!("/opt/vendor-{n}/lib");
        make_dir(&root.join(&dir[1..]))?;
        list += &format!("{dir}\n");
    }
    write(&root.join("etc/ld.so.conf.d/vendors.conf"), &list)?;
    for n in 0..MANY {
        let dir = match n % (2 * DIRECTORIES) {
            d if d < DIRECTORIES => format!("opt/vendor-{d}/lib"),
            _ => "usr/lib/x86_64-linux-gnu".to_owned(),
        };
        let soname = format!("libvendor-{n}.so.1");
        let file = format!("{soname}.{}", n % 7);
        let at = root.join(dir);
        fs::write(at.join(&file), shared_object(&soname, false)).map_err(context("a library"))?;
        symlink(&file, at.join(&soname)).map_err(context("a library's link"))?;
    }
    run(Command::new("/sbin/ldconfig").arg("-r").arg(root))?;
    let _ = fs::remove_file(root.join("var/cache/ldconfig/aux-cache"));
    Ok(())
}
