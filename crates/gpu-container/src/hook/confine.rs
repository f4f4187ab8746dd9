//! What each hook gives up before it reads a word about a container; a socket to the journal it keeps,
//! where one listens. The shim gives up nothing: it becomes the low-level runtime, which needs all it was
//! started with.

use gpu_inject::live::{Capability, OwnMounts, SystemdManager, confine};

use crate::log;

/// For the hook of our CDI spec, which the runtime starts in the container's namespaces:
/// files of the image's, and mounts. Says whose mount namespace this is, which is seen before
/// `CAP_SYS_PTRACE` goes.
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

/// For the prestart hook, which comes from the host's namespaces into the container's. Returns a connection to systemd,
/// which is made before the right to make sockets goes.
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
