//! Parses the program's name and the parts of the runtime's command line that matter here.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use gpu_inject::policy::RuntimeMode;

/// Names of this program, which may have a suffix.
const NAMES: [&str; 2] = ["gpu-container-runtime", "nvidia-container-runtime"];

/// Global flags that take a value (runc 1.3 `runc --help`, crun 1.21 `crun --help`).
const GLOBAL_WITH_VALUE: [&str; 7] = [
    "--log",
    "--log-format",
    "--log-level",
    "--root",
    "--criu",
    "--rootless",
    "--cgroup-manager",
];

/// Settings in the program's name. The suffixes `.cdi` and `.legacy` select a mode
/// (nvidia-container-toolkit `cmd/nvidia-container-runtime.cdi`). `-crun` and the like select the
/// low-level runtime that is preferred, so that an engine can select it by the path in its own
/// configuration, independently of other engines on the host.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ProgramName {
    pub(super) mode: Option<RuntimeMode>,
    pub(super) low_level: Option<String>,
}

impl ProgramName {
    pub(super) fn by(name: &str) -> Self {
        let suffix = NAMES.iter().find_map(|n| name.strip_prefix(n));
        let suffix = suffix.unwrap_or_default();
        match suffix.split_at_checked(1) {
            Some((".", mode)) => Self {
                mode: RuntimeMode::from_word(mode),
                low_level: None,
            },
            Some(("-", runtime)) if !runtime.is_empty() => Self {
                mode: None,
                low_level: Some(runtime.to_owned()),
            },
            _ => Self::default(),
        }
    }
}

/// Whether this is a name of the runtime shim.
pub(crate) fn is_name(name: &str) -> bool {
    NAMES.contains(&name) || ProgramName::by(name) != ProgramName::default()
}

/// The parts of the command line that matter here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) makes_container: bool,
    pub(super) asks_version: bool,
    pub(super) bundle: PathBuf,
    pub(super) log: Option<PathBuf>,
}

impl Call {
    pub(super) fn read(args: &[OsString]) -> Self {
        let mut call = Self {
            bundle: ".".into(),
            ..Self::default()
        };
        let mut command: Option<&OsStr> = None;
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let text = arg.to_string_lossy();
            let (flag, inline) = match text.split_once('=') {
                Some((flag, value)) if flag.starts_with('-') => (flag, Some(value.into())),
                _ => (text.as_ref(), None),
            };
            // runc and crun accept one dash as well as two.
            let flag = format!("--{}", flag.trim_start_matches('-'));
            let dashed = text.starts_with('-');
            if !dashed {
                command = command.or(Some(arg));
                continue;
            }
            let mut value = || inline.clone().or_else(|| args.next().map(PathBuf::from));
            match (command, flag.as_str()) {
                (None, "--log") => call.log = value(),
                (None, "--version") => call.asks_version = true,
                (None, flag) if GLOBAL_WITH_VALUE.contains(&flag) => drop(value()),
                (Some(_), "--bundle" | "--b") => call.bundle = value().unwrap_or_default(),
                _ => {}
            }
        }
        call.makes_container = command.is_some_and(|c| c == "create" || c == "run");
        call
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn call(line: &str) -> Call {
        Call::read(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_command_and_the_bundle_are_found() {
        let docker = call(
            "--root /run/x --log /l.json --log-format json --systemd-cgroup create --bundle /b --pid-file /p id",
        );
        assert_eq!(
            docker,
            Call {
                makes_container: true,
                asks_version: false,
                bundle: "/b".into(),
                log: Some("/l.json".into()),
            }
        );
        assert_eq!(call("run -b /b id").bundle, Path::new("/b"));
        assert_eq!(
            call("--log=/l create --bundle=/b id").bundle,
            Path::new("/b")
        );
        assert_eq!(call("create id").bundle, Path::new("."));
    }

    #[test]
    fn a_container_named_create_is_not_the_command() {
        assert!(!call("delete create").makes_container);
        assert!(!call("--root create state x").makes_container);
        assert!(!call("--log").makes_container);
        assert!(!call("start run").makes_container);
        // The command is not mistaken for the value of a flag without value.
        assert!(call("--debug create --bundle /b id").makes_container);
        assert!(call("--systemd-cgroup run id").makes_container);
    }

    #[test]
    fn version_is_a_flag_only_before_the_command() {
        assert!(call("--version").asks_version && call("-version").asks_version);
        assert!(!call("exec id ls --version").asks_version);
    }

    #[test]
    fn the_programs_name_selects_the_mode_and_the_low_level_runtime() {
        let called = |name: &str| ProgramName::by(name);
        assert_eq!(called("nvidia-container-runtime"), ProgramName::default());
        assert_eq!(
            called("nvidia-container-runtime.cdi").mode,
            Some(RuntimeMode::Cdi)
        );
        let legacy = called("gpu-container-runtime.legacy");
        assert_eq!(legacy.mode, Some(RuntimeMode::Legacy));
        let crun = called("gpu-container-runtime-crun").low_level;
        assert_eq!(crun.as_deref(), Some("crun"));
        assert!(is_name("nvidia-container-runtime-runc") && is_name("gpu-container-runtime"));
        for other in [
            "runtime",
            "nvidia-container-runtime.odd",
            "nvidia-container-runtime-",
        ] {
            assert!(!is_name(other), "{other}");
        }
    }
}
