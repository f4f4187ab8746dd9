//! A container made by hand, for programs that put GPUs into a running container: a mount namespace of its own, which
//! waits for a line on standard input and then becomes the container's program.

use std::io::{self, Write};
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, chroot};

/// Prints `ready`, waits for a line, and then changes its root to `root`.
pub(crate) fn enter(root: &Path) -> Result<(), String> {
    let named = |what: &'static str| move |e: nix::Error| format!("{what}: {e}");
    unshare(CloneFlags::CLONE_NEWNS).map_err(named("unshare"))?;
    let nothing = None::<&str>;
    mount(
        nothing,
        "/",
        nothing,
        MsFlags::MS_PRIVATE | MsFlags::MS_REC,
        nothing,
    )
    .map_err(named("make / private"))?;
    mount(Some(root), root, nothing, MsFlags::MS_BIND, nothing).map_err(named("bind the root"))?;
    let failed = |e: io::Error| e.to_string();
    let mut out = io::stdout();
    writeln!(out, "ready")
        .and_then(|()| out.flush())
        .map_err(failed)?;
    let mut line = String::new();
    if io::stdin().read_line(&mut line).map_err(failed)? == 0 {
        return Err("nobody said that the container is ready".to_owned());
    }
    chroot(root).map_err(named("chroot"))?;
    chdir("/").map_err(named("chdir"))
}
