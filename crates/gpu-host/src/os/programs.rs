//! Where a host has its programs.

/// Directories in which one without a path is looked for, whatever PATH says: an engine's can be
/// bare, a user's can lead anywhere. Those of sudo and systemd (systemd.exec(5), `ExecSearchPath=`).
pub const DIRS: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];
