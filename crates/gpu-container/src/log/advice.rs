//! Adds to an error what the user can do about it with gpusetup's commands. The libraries state only facts, because
//! programs of others may show them; this program knows that gpusetup has set it up.

use std::fmt;

use gpu_inject::{Error, KindRule, MigControlFault};

/// An error, followed by advice.
pub(crate) struct Advised<'a>(pub(crate) &'a Error);

impl fmt::Display for Advised<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = self.0;
        write!(f, "{error}")?;
        match error {
            Error::NoDriver => f.write_str("; `gpusetup detect` tells what is missing"),
            Error::MigControl {
                fault: MigControlFault::NoNode,
                ..
            } => f.write_str("; `gpusetup detect` shows what it has"),
            Error::KindNotAllowed {
                rule: KindRule::Listed { key, kinds },
                ..
            } => write!(
                f,
                ". Ask the engine itself for it (docker or podman run --device), or let containers \
                 ask: gpusetup config set {key}={kinds}"
            ),
            Error::Disputed { .. } => {
                f.write_str(". When nvidia-smi lists it again: gpusetup cdi refresh")
            }
            Error::OtherGpu { .. } => f.write_str(": gpusetup cdi refresh"),
            Error::HookFlag(_) => f.write_str(" `gpusetup cdi refresh` makes it anew"),
            Error::Cdi(cdi::Error::Unknown { .. }) => {
                f.write_str("; `gpusetup cdi list` shows those there are")
            }
            Error::Discover(gpu_host::Error::DriverRoot { .. }) => f.write_str(
                "; name the directory that has the driver's usr/lib: \
                 gpusetup config set nvidia-container-cli.root=DIR",
            ),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_helps_comes_after_what_is_wrong() {
        let unknown = cdi::Error::Unknown {
            name: "a/b=c".into(),
        };
        let driver_root = gpu_host::Error::DriverRoot {
            path: "/nowhere".into(),
            source: io::Error::from(io::ErrorKind::NotFound),
        };
        let kind = |rule| Error::KindNotAllowed {
            asked: "a/b=c".into(),
            by: "X".into(),
            who: "An image can set it",
            allowed: &["nvidia.com/gpu"],
            rule,
        };
        let listed = kind(KindRule::Listed {
            key: "k",
            kinds: "a/b".into(),
        });
        let no_node = Error::MigControl {
            name: "NVIDIA_MIG_CONFIG_DEVICES",
            fault: MigControlFault::NoNode,
        };
        for (error, helps) in [
            (Error::NoDriver, "`gpusetup detect` tells"),
            (no_node, "`gpusetup detect` shows"),
            (
                Error::HookFlag("--x".into()),
                "`gpusetup cdi refresh` makes",
            ),
            (Error::Cdi(unknown), "`gpusetup cdi list` shows"),
            (
                Error::Discover(driver_root),
                "gpusetup config set nvidia-container-cli.root=",
            ),
            (listed, "let containers ask: gpusetup config set k=a/b"),
        ] {
            let said = Advised(&error).to_string();
            let advice = said.strip_prefix(&error.to_string()).unwrap();
            assert!(advice.contains(helps), "{said}");
            assert!(!error.to_string().contains("gpusetup "), "{error}");
        }
        let of_privileged = kind(KindRule::Privileged { key: "k" });
        assert_eq!(
            Advised(&of_privileged).to_string(),
            of_privileged.to_string()
        );
    }
}
