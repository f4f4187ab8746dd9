//! Error messages in the format that callers of `nvidia-container-cli` parse.

use std::fmt::{self, Display};
use std::path::Path;

use gpu_inject::{Error, Excerpt};

use crate::log::{Advised, bounded};

/// The phase in which an error occurred. Its name is the first word of the message
/// (libnvidia-container `src/cli/*.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Input,
    Initialization,
    Container,
    Detection,
    Device,
    MigConfig,
    MigMonitor,
    Requirement,
    Mount,
    Ldcache,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "input",
            Self::Initialization => "initialization",
            Self::Container => "container",
            Self::Detection => "detection",
            Self::Device => "device",
            Self::MigConfig => "mig-config",
            Self::MigMonitor => "mig-monitor",
            Self::Requirement => "requirement",
            Self::Mount => "mount",
            Self::Ldcache => "ldcache",
        })
    }
}

/// An error, shown as one line: `<phase> error: <text>`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{phase} error: {text}")]
pub(super) struct Failure {
    pub(super) phase: Phase,
    pub(super) text: String,
}

impl Phase {
    pub(super) fn failure(self, text: impl Display) -> Failure {
        Failure {
            phase: self,
            text: bounded(text),
        }
    }
}

/// The failure for an error while reading the host or planning.
pub(super) fn of_plan(error: &Error) -> Failure {
    match error {
        Error::NoDriver => Phase::Initialization.failure(Advised(error)),
        Error::NoSuchDevice { .. } | Error::Ambiguous { .. } => {
            Phase::Device.failure(Advised(error))
        }
        Error::Requirement { condition, has } => Phase::Requirement.failure(unmet(condition, has)),
        // The message has the phase already, which must not be repeated.
        Error::BadRequirement(_) => {
            let text = error.to_string();
            let phase = "requirement error: ";
            Phase::Requirement.failure(text.strip_prefix(phase).unwrap_or(&text))
        }
        _ => Phase::Detection.failure(Advised(error)),
    }
}

/// The text for an unmet requirement. `condition` is the first of its alternatives.
fn unmet(condition: &Excerpt, has: &str) -> String {
    let advice = if condition.starts_with("cuda>=") {
        ", please update your driver to a newer version, or use an earlier cuda container"
    } else {
        ""
    };
    format!("unsatisfied condition: {condition}{advice} ({has})")
}

/// The failure for an error while applying edits in a container.
pub(super) fn of_injection(error: &Error, rootfs: &Path) -> Failure {
    let phase = match error {
        Error::Rootfs { path, .. } if path.starts_with("/etc/ld.so.cache") => Phase::Ldcache,
        Error::Host { path, .. } if path == rootfs || path.starts_with("/proc") => Phase::Container,
        Error::System { what, .. } if what.starts_with("enter ") => Phase::Container,
        _ => Phase::Mount,
    };
    phase.failure(Advised(error))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_requirement_is_reported_by_its_first_alternative() {
        let error = Error::Requirement {
            condition: "cuda>=13.1".into(),
            has: "driver 580.65.06".into(),
        };
        let message = of_plan(&error).to_string();
        assert!(
            message.starts_with(
                "requirement error: unsatisfied condition: cuda>=13.1, please update your driver"
            ),
            "{message}"
        );
        assert!(
            message.contains("580.65.06") && !message.contains("tesla"),
            "{message}"
        );
    }

    #[test]
    fn errors_in_the_container_have_their_phase() {
        let source = || io::Error::from(io::ErrorKind::NotFound);
        let host = |path: &str| Error::Host {
            path: path.into(),
            source: source(),
        };
        let within = |path: &str| Error::Rootfs {
            path: path.into(),
            what: "create",
            source: source(),
        };
        let system = |what: &str| Error::System {
            what: what.into(),
            source: source(),
        };
        for (error, phase) in [
            (host("/proc/77"), Phase::Container),
            (host("/root/fs"), Phase::Container),
            (host("/usr/lib/libcuda.so.1"), Phase::Mount),
            (within("/etc/ld.so.cache"), Phase::Ldcache),
            (within("/usr/lib/libcuda.so.1"), Phase::Mount),
            (system("enter /proc/77/ns/mnt"), Phase::Container),
            (system("/x: move_mount"), Phase::Mount),
        ] {
            assert_eq!(
                of_injection(&error, Path::new("/root/fs")).phase,
                phase,
                "{error}"
            );
        }
    }
}
