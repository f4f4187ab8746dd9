//! How a container of ours asks for all GPUs by the runtime: as the host's policy lets a container ask.

use gpu_inject::policy::Policy;

use crate::host::Host;

/// The request for all GPUs by the variable.
pub const VARIABLE: &str = "NVIDIA_VISIBLE_DEVICES=all";
/// The file of the host whose mount is a request.
pub const SOURCE: &str = "/dev/null";
/// Where it is mounted to request all GPUs (gpu-inject, `request/mounts.rs`).
pub const TARGET: &str = "/var/run/nvidia-container-devices/all";
/// The capability by which a container counts as privileged. A privileged container could open every GPU anyway, and
/// would show nothing.
pub const CAPABILITY: &str = "CAP_SYS_ADMIN";

/// A way in which the policy lets a container ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowedWay {
    /// By the variable: any container may.
    Variable,
    /// By a mount. The variable counts for privileged containers alone.
    Mount,
    /// By the variable, as a privileged container: no other way is open.
    Privileged,
}

impl AllowedWay {
    /// The way for that host. A policy that cannot be read is told by the start of the container.
    pub fn of(host: &Host) -> Self {
        host.engine_policy()
            .map_or(Self::Variable, |policy| Self::by(&policy))
    }

    fn by(policy: &Policy) -> Self {
        match (policy.accept_unprivileged, policy.accept_mounts) {
            (true, _) => Self::Variable,
            (false, true) => Self::Mount,
            (false, false) => Self::Privileged,
        }
    }

    /// Whether the variable alone must give a container nothing.
    pub fn denies_variable(self) -> bool {
        self != Self::Variable
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_policy_decides_how_to_ask() {
        let of = |text: &str| AllowedWay::by(&Policy::from_toml(text, Path::new("/c")).unwrap());
        let key = "accept-nvidia-visible-devices";
        let strict = format!("{key}-envvar-when-unprivileged = false\n");
        let mounts = format!("{key}-as-volume-mounts = true\n");
        assert_eq!(of(""), AllowedWay::Variable);
        assert_eq!(of(&mounts), AllowedWay::Variable);
        assert_eq!(of(&(strict.clone() + &mounts)), AllowedWay::Mount);
        assert_eq!(of(&strict), AllowedWay::Privileged);
        assert!(!of("").denies_variable() && of(&strict).denies_variable());
    }

    #[test]
    fn a_policy_that_cannot_be_read_changes_nothing() {
        let tree = tempfile::tempdir().unwrap();
        let file = tree.path().join("etc/nvidia-container-runtime/config.toml");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "[broken").unwrap();
        let host = Host::open(tree.path(), Path::new("/")).unwrap();
        assert_eq!(AllowedWay::of(&host), AllowedWay::Variable);
    }
}
