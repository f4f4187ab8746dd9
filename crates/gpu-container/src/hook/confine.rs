//! Confines each hook before it reads anything about a container. A hook keeps a socket to the journal, if one is
//! listening. The shim is not confined: it becomes the low-level runtime, which needs everything that it was started
//! with.

use gpu_inject::live::{Capability, OwnMounts, SystemdManager, confine};

use crate::log;

/// For the hook of our CDI spec, which the runtime starts in the container's namespaces. It keeps what it needs for
/// files of the image and for mounts. Returns whose mount namespace this is, which is determined before
/// `CAP_SYS_PTRACE` is dropped.
pub(crate) fn cdi_hook() -> OwnMounts {
    confine(
        &[
            Capability::DacOverride,
            Capability::Fowner,
            Capability::SysChroot,
            Capability::SysAdmin,
        ],
        || {
            log::open();
            OwnMounts::of_hook()
        },
    )
}

/// For the prestart hook, which starts in the host's namespaces and enters the container's. Returns a connection to
/// systemd, which is made before the filter forbids making sockets.
pub(crate) fn prestart_hook() -> Option<SystemdManager> {
    confine(
        &[
            Capability::DacOverride,
            Capability::Fowner,
            Capability::Setgid,
            Capability::Setuid,
            Capability::NetAdmin,
            Capability::SysChroot,
            Capability::SysPtrace,
            Capability::SysAdmin,
            Capability::Syslog,
            Capability::Bpf,
        ],
        || {
            log::open();
            SystemdManager::connect()
        },
    )
}
