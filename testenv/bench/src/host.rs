//! A host with a fake driver and gpusetup, in a mount namespace of its own with a throw-away overlay over `/`. This
//! process is in it afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{chdir, pivot_root};

use crate::case::Below;
use crate::program::{context, run};
use crate::protocol::HostOptions;

/// Where the host sees what is brought into it.
pub(crate) const HERE: &str = "/run/bench";

/// Whether the runtime can make cgroups here.
pub(crate) fn enter(options: &HostOptions) -> Result<bool, String> {
    private_root(&options.work)?;
    let has_cgroups = options.below == Below::Runc || unified_cgroups()?;
    set_child_subreaper(true).map_err(context("become a subreaper"))?;
    let tree = here("bin").join(&options.tree).join(".");
    run(Command::new("cp").arg("-a").arg(tree).arg("/"))?;
    for theirs in ["/etc/nvidia-container-runtime", "/etc/cdi"] {
        let _ = fs::remove_dir_all(theirs);
    }
    let (gpus, mig) = (options.gpus.count.to_string(), options.gpus.mig.to_string());
    run(Command::new("/run/bench/bin/fake-driver").args([
        "install", "--root", "/", "--live", "--gpus", &gpus, "--mig", &mig,
    ]))?;
    run(Command::new("gpusetup").args(["cdi", "refresh"]))?;
    let policy = Path::new("/etc/nvidia-container-runtime");
    let low_level = options.below;
    write(
        &policy.join("config.toml"),
        &policy_text(&low_level.to_string(), has_cgroups, None),
    )?;
    Ok(has_cgroups)
}

/// A config.toml that our programs and nvidia-container-toolkit read; with the directory of CDI specs for a runtime
/// that takes its GPUs from there.
pub(crate) fn policy_text(low_level: &str, has_cgroups: bool, specs: Option<&Path>) -> String {
    let cdi = specs.map_or_else(String::new, |dir| {
        format!(
            "mode = \"cdi\"\n[nvidia-container-runtime.modes.cdi]\nspec-dirs = [\"{}\"]\n",
            dir.display()
        )
    });
    format!(
        "[nvidia-container-cli]\nno-cgroups = {}\n[nvidia-container-runtime]\nruntimes = [\"{low_level}\"]\n{cdi}",
        !has_cgroups
    )
}

fn private_root(work: &Path) -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(context("a mount namespace of its own"))?;
    mount_at(None, "/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, "")?;
    let layer = work.join("layer");
    make_dir(&layer)?;
    mount_at(Some("tmpfs"), &layer, Some("tmpfs"), MsFlags::empty(), "")?;
    for dir in ["upper", "work", "root"] {
        make_dir(&layer.join(dir))?;
    }
    let root = layer.join("root");
    let options = format!(
        "lowerdir=/,upperdir={0}/upper,workdir={0}/work",
        layer.display()
    );
    mount_at(
        Some("overlay"),
        &root,
        Some("overlay"),
        MsFlags::empty(),
        &options,
    )?;
    mount_at(
        Some("proc"),
        root.join("proc"),
        Some("proc"),
        MsFlags::empty(),
        "",
    )?;
    mount_at(
        Some("/sys"),
        root.join("sys"),
        None,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        "",
    )?;
    for (dir, mode) in [
        ("run", "mode=755"),
        ("tmp", "mode=1777"),
        ("dev", "mode=755"),
    ] {
        mount_at(
            Some("tmpfs"),
            root.join(dir),
            Some("tmpfs"),
            MsFlags::empty(),
            mode,
        )?;
    }
    nodes(&root.join("dev"))?;
    for dir in ["images", "bin"] {
        let to = root.join("run/bench").join(dir);
        make_dir(&to)?;
        // A bind mount: an overlay on an overlay would be slower than any engine's.
        let from = work.join(dir);
        mount_at(from.to_str(), to, None, MsFlags::MS_BIND, "")?;
    }
    chdir(&root).map_err(context("enter the new root"))?;
    pivot_root(".", "tmp").map_err(context("pivot_root"))?;
    umount2("/tmp", MntFlags::MNT_DETACH).map_err(context("leave the old root"))?;
    chdir("/").map_err(context("enter the new root"))
}

fn nodes(dev: &Path) -> Result<(), String> {
    for (name, major, minor) in [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ] {
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&dev.join(name), SFlag::S_IFCHR, mode, makedev(major, minor))
            .map_err(context(name))?;
    }
    make_dir(&dev.join("pts"))?;
    let options = "newinstance,ptmxmode=0666";
    mount_at(
        Some("devpts"),
        dev.join("pts"),
        Some("devpts"),
        MsFlags::empty(),
        options,
    )?;
    std::os::unix::fs::symlink("pts/ptmx", dev.join("ptmx")).map_err(context("/dev/ptmx"))?;
    std::os::unix::fs::symlink("/proc/self/fd", dev.join("fd")).map_err(context("/dev/fd"))
}

/// crun 1.8 works with cgroup v1 or v2 but not with both. Where this machine has both, it sees only v2 and makes no
/// cgroup there, since the controllers are v1's.
fn unified_cgroups() -> Result<bool, String> {
    let cgroup = Path::new("/sys/fs/cgroup");
    if cgroup.join("cgroup.controllers").exists() {
        return Ok(true);
    }
    run(Command::new("umount").args(["-R", "/sys/fs/cgroup"]))?;
    mount_at(Some("none"), cgroup, Some("cgroup2"), MsFlags::empty(), "")?;
    Ok(false)
}

pub(crate) fn mount_at(
    from: Option<&str>,
    to: impl AsRef<Path>,
    kind: Option<&str>,
    flags: MsFlags,
    options: &str,
) -> Result<(), String> {
    let to = to.as_ref();
    mount(from, to, kind, flags, Some(options)).map_err(|e| format!("mount {}: {e}", to.display()))
}

pub(crate) fn make_dir(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|e| format!("{}: {e}", path.display()))
}

pub(crate) fn write(path: &Path, text: &str) -> Result<(), String> {
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// A path below [`HERE`].
pub(crate) fn here(name: &str) -> PathBuf {
    Path::new(HERE).join(name)
}
