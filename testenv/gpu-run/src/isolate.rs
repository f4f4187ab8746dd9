//! The run's own namespaces. However the program ends, the kernel then ends every process in them, and the mounts
//! vanish with the last process.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::getppid;
use rustix::net::{AddressFamily, SocketType, socket};

use crate::layer;
use crate::options::Options;

/// Exit code for a step that is impossible on this host.
pub(crate) const CANNOT: u8 = 6;

/// The first of three processes: creates the namespaces, while itself staying in the host's pid namespace.
pub(crate) fn isolate(options: &Options) -> Result<u8, String> {
    die_with_parent()?;
    // A network namespace too: a dockerd that is started without a bridge removes the one that it finds.
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET;
    unshare(namespaces).map_err(|e| format!("namespaces of its own: {e}"))?;
    loopback_up().map_err(|e| format!("the loopback interface: {e}"))?;
    let status = self_command("init", options)
        .stdout(Stdio::inherit())
        .status()
        .map_err(|e| e.to_string())?;
    Ok(status
        .code()
        .and_then(|c| u8::try_from(c).ok())
        .unwrap_or(1))
}

/// The second process, which is pid 1 of the new pid namespace. Makes the layer, starts the run and reaps all
/// orphans.
pub(crate) fn init(options: &Options) -> Result<u8, String> {
    die_with_parent()?;
    let place = options.output.join(layer::MOUNT_POINT);
    let nodes = if options.fake.is_some() {
        layer::GpuNodes::None
    } else {
        layer::GpuNodes::OfHost
    };
    let brought = [
        ("programs", options.programs.as_path()),
        ("output", &options.output),
    ];
    layer::enter(&place, &brought, nodes)?;
    let mut command = Command::new(Path::new(layer::BROUGHT).join("programs/gpu-run"));
    command.arg("work").args(options.arguments());
    let child = command
        .env_clear()
        .env("PATH", "/usr/lib/gpu-container/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("LANG", "C.UTF-8")
        .envs(std::env::var_os("LD_LIBRARY_PATH").map(|v| ("LD_LIBRARY_PATH", v)))
        .spawn()
        .map_err(|e| format!("the run itself: {e}"))?;
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, code)) if is_child(pid, &child) => {
                return Ok(u8::try_from(code).unwrap_or(1));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if is_child(pid, &child) => {
                return Err(format!("the run itself ended by {signal}"));
            }
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => return Err(format!("waiting for the run: {e}")),
        }
    }
}

fn is_child(pid: nix::unistd::Pid, child: &std::process::Child) -> bool {
    u32::try_from(pid.as_raw()).is_ok_and(|p| p == child.id())
}

/// A command that starts this program again with the same options.
pub(crate) fn self_command(verb: &str, options: &Options) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(verb)
        .args(options.arguments())
        .stdin(Stdio::null());
    command
}

fn die_with_parent() -> Result<(), String> {
    let parent = getppid();
    set_pdeathsig(Signal::SIGKILL).map_err(|e| format!("prctl: {e}"))?;
    // The parent can have died before the call.
    if getppid() == parent {
        Ok(())
    } else {
        Err("the program that started this one is gone".into())
    }
}

/// Sets the loopback interface up, which a new network namespace has down. containerd listens on it.
fn loopback_up() -> std::io::Result<()> {
    let route = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    let mut message = Vec::new();
    // struct nlmsghdr: length, RTM_NEWLINK, NLM_F_REQUEST, sequence, port.
    message.extend(32_u32.to_ne_bytes());
    message.extend(16_u16.to_ne_bytes());
    message.extend(1_u16.to_ne_bytes());
    message.extend([0; 8]);
    // struct ifinfomsg: family, type, index, flags, mask of the flags to change. IFF_UP is 1; the first interface is
    // lo.
    message.extend([0; 4]);
    message.extend(1_i32.to_ne_bytes());
    message.extend(1_u32.to_ne_bytes());
    message.extend(1_u32.to_ne_bytes());
    std::fs::File::from(route).write_all(&message)
}
