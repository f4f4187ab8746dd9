//! Where the configuration of Docker is.

use super::snap;

/// The file of the system's Docker, unless a flag names another.
pub(super) const CONFIG: &str = "/etc/docker/daemon.json";
/// The default PID file (dockerd(8), `--pidfile`).
pub(super) const PIDFILE: &str = "/var/run/docker.pid";
/// Where the configuration of the system's Docker and of the snap can name our programs.
pub const CONFIG_PATTERNS: &[&str] = &[
    CONFIG,
    "/etc/default/docker",
    "/etc/sysconfig/docker",
    "/etc/conf.d/docker",
    snap::CONFIG,
];
/// The same places for a rootless Docker, below the user's `XDG_CONFIG_HOME`.
pub const USER_CONFIG_PATTERNS: &[&str] = &["docker/daemon.json"];
