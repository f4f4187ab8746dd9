//! The directories in which host programs are looked up.

/// Where a program given without a path is looked up. PATH is ignored: an engine may have an empty
/// one, and a user's may contain any directory. The list is that of sudo and systemd
/// (systemd.exec(5), `ExecSearchPath=`).
pub const DIRS: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// Directories where packages of CRI-O and of Kubernetes distributions keep runtimes for themselves.
pub const PACKAGED_DIRS: [&str; 5] = [
    "/usr/libexec/crio",
    "/var/lib/rancher/k3s/data/current/bin",
    "/var/lib/rancher/rke2/bin",
    "/var/lib/k0s/bin",
    "/snap/microk8s/current/bin",
];
