//! What a test can need of a machine, and how each is looked for.

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A prerequisite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// To be root, of the initial user namespace or one that may as much.
    Root,
    /// `runc` on PATH.
    Runc,
    /// `crun` on PATH.
    Crun,
    /// A crun that starts a container here: shown by an attempt.
    CrunStarts,
    /// A runc that uses the unified hierarchy here: shown by an attempt.
    UnifiedRunc,
    /// `strace` on PATH, and that it may trace.
    Strace,
    /// A static busybox at /bin/busybox, of which images are made.
    Busybox,
    /// `python3` on PATH.
    Python3,
    /// A C compiler, binutils, `make` and `pkg-config`.
    CCompiler,
    /// `valgrind` on PATH.
    Valgrind,
    /// `unshare` and `nsenter` of util-linux.
    Unshare,
    /// `/sbin/ldconfig`.
    Ldconfig,
    /// x86-64: what is compared is named for it.
    X86,
    /// Character devices can be made.
    DeviceNodes,
    /// Mounts by descriptor, as root (Linux 5.12): shown by an attempt.
    MountApi,
    /// `pidfd_open` (Linux 5.3): shown by an attempt.
    Pidfd,
    /// A file system of temporary files with immutable ones: shown by an attempt.
    ImmutableFiles,
    /// `containerd` and `ctr` on PATH.
    Containerd,
    /// A containerd 2.x, which `GPUSETUP_CONTAINERDS` names.
    Containerd2,
    /// `/usr/sbin/dockerd` and `/usr/bin/docker`.
    Docker,
    /// A host of its own under an overlay can be made here: shown by an attempt.
    OverlayHost,
    /// What `cargo build --workspace` makes beside the tested program.
    Workspace,
    /// `systemd-analyze` on PATH.
    SystemdAnalyze,
    /// `secilc` on PATH.
    Secilc,
    /// `lxc-start` on PATH, and LXC's own hook for NVIDIA's tools.
    Lxc,
    /// The mount namespace of the machine's first process, to be looked at: shown by an attempt.
    HostNamespace,
    /// A test that is loaded dynamically by glibc's loader: shown by an attempt.
    Dynamic,
}

impl Need {
    /// All there are.
    pub const ALL: [Self; 27] = [
        Self::Root,
        Self::Runc,
        Self::Crun,
        Self::CrunStarts,
        Self::UnifiedRunc,
        Self::Strace,
        Self::Busybox,
        Self::Python3,
        Self::CCompiler,
        Self::Valgrind,
        Self::Unshare,
        Self::Ldconfig,
        Self::X86,
        Self::DeviceNodes,
        Self::MountApi,
        Self::Pidfd,
        Self::ImmutableFiles,
        Self::Containerd,
        Self::Containerd2,
        Self::Docker,
        Self::OverlayHost,
        Self::Workspace,
        Self::SystemdAnalyze,
        Self::Secilc,
        Self::Lxc,
        Self::HostNamespace,
        Self::Dynamic,
    ];

    /// As lists and `GPUSETUP_TESTS_REQUIRE` have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Runc => "runc",
            Self::Crun => "crun",
            Self::CrunStarts => "crun-starts",
            Self::UnifiedRunc => "unified-runc",
            Self::Strace => "strace",
            Self::Busybox => "busybox",
            Self::Python3 => "python3",
            Self::CCompiler => "c-compiler",
            Self::Valgrind => "valgrind",
            Self::Unshare => "unshare",
            Self::Ldconfig => "ldconfig",
            Self::X86 => "x86-64",
            Self::DeviceNodes => "device-nodes",
            Self::MountApi => "mount-api",
            Self::Pidfd => "pidfd",
            Self::ImmutableFiles => "immutable-files",
            Self::Containerd => "containerd",
            Self::Containerd2 => "containerd-2",
            Self::Docker => "docker",
            Self::OverlayHost => "overlay-host",
            Self::Workspace => "workspace",
            Self::SystemdAnalyze => "systemd-analyze",
            Self::Secilc => "secilc",
            Self::Lxc => "lxc",
            Self::HostNamespace => "host-namespace",
            Self::Dynamic => "dynamic",
        }
    }

    /// Why it is not here. What only an attempt shows is here until the attempt says otherwise.
    pub(crate) fn probe(self) -> Result<(), String> {
        match self {
            Self::Root => ensure(nix::unistd::geteuid().is_root(), "not root"),
            Self::Runc => ensure_runs("runc", "--version"),
            Self::Crun => ensure_runs("crun", "--version"),
            Self::Strace => ensure_runs("strace", "true"),
            Self::Busybox => ensure_exists("/bin/busybox"),
            Self::Python3 => ensure_runs("python3", "--version"),
            Self::CCompiler => {
                for program in ["cc", "nm", "readelf", "make", "pkg-config"] {
                    ensure_runs(program, "--version")?;
                }
                Ok(())
            }
            Self::Valgrind => ensure_runs("valgrind", "--version"),
            Self::Unshare => ensure_runs("unshare", "--version")
                .and_then(|()| ensure_runs("nsenter", "--version")),
            Self::Ldconfig => ensure_exists("/sbin/ldconfig"),
            Self::X86 => ensure(std::env::consts::ARCH == "x86_64", "not x86-64"),
            Self::DeviceNodes => can_make_nodes(),
            Self::Containerd => ensure_runs("containerd", "--version")
                .and_then(|()| ensure_runs("ctr", "--version")),
            Self::Docker => {
                ensure_exists("/usr/sbin/dockerd").and_then(|()| ensure_exists("/usr/bin/docker"))
            }
            Self::Lxc => ensure_runs("lxc-start", "--version")
                .and_then(|()| ensure_exists("/usr/share/lxc/hooks/nvidia")),
            Self::SystemdAnalyze => ensure_runs("systemd-analyze", "--version"),
            // Its help exits with 1.
            Self::Secilc => ensure_starts("secilc", "--help").map(drop),
            Self::CrunStarts
            | Self::UnifiedRunc
            | Self::MountApi
            | Self::Pidfd
            | Self::ImmutableFiles
            | Self::Containerd2
            | Self::OverlayHost
            | Self::Workspace
            | Self::HostNamespace
            | Self::Dynamic => Ok(()),
        }
    }
}

fn ensure(is_so: bool, why: &str) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(why.to_owned()) }
}

fn ensure_exists(path: &str) -> Result<(), String> {
    match Path::new(path).try_exists() {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("no {path}")),
        Err(error) => Err(format!("{path}: {error}")),
    }
}

/// Any other word than a flag is what the program is to run.
fn ensure_runs(program: &str, word: &str) -> Result<(), String> {
    let out = ensure_starts(program, word)?;
    if out.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&out.stderr);
    let line = stderr.lines().next().unwrap_or_default();
    Err(format!("{program} {word}: {}: {line}", out.status))
}

fn ensure_starts(program: &str, word: &str) -> Result<Output, String> {
    let mut command = Command::new(program);
    let out = command.arg(word).stdin(Stdio::null()).output();
    out.map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("{program} is not installed"),
        _ => format!("{program}: {error}"),
    })
}

fn can_make_nodes() -> Result<(), String> {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let dir = tempfile::tempdir().map_err(|e| format!("no temporary directory: {e}"))?;
    let mode = Mode::from_bits_truncate(0o600);
    mknod(
        &dir.path().join("node"),
        SFlag::S_IFCHR,
        mode,
        makedev(195, 0),
    )
    .map_err(|errno| format!("mknod: {}", errno.desc()))
}
