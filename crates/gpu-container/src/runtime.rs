//! The OCI runtime shim: `create` and `run` edit config.json for a container that asks
//! for GPUs; everything else goes to the low-level runtime untouched.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use gpu_host::Root;
use gpu_inject::policy::Policy;
use gpu_inject::request::{ContainerView, Request};
use gpu_inject::{Error, generate, inventory_store, plan, spec};

use crate::bundle::Bundle;
use crate::log;

/// Flags before the command that take a value (runc 1.3 `runc --help`, crun 1.21 `crun --help`).
const GLOBAL_WITH_VALUE: [&str; 7] = [
    "--log",
    "--log-format",
    "--log-level",
    "--root",
    "--criu",
    "--rootless",
    "--cgroup-manager",
];

/// Where a low-level runtime is looked for besides PATH; an engine's PATH can be bare.
const DIRS: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// Runs as an OCI runtime.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let call = Call::read(args);
    match prepare(&call).and_then(|policy| exec(&policy, args)) {
        Ok(never) => never,
        Err(e) => {
            log::failure(&e, call.log.as_deref());
            ExitCode::FAILURE
        }
    }
}

/// What of the command line concerns us.
#[derive(Debug, Default, PartialEq, Eq)]
struct Call {
    makes_container: bool,
    bundle: PathBuf,
    log: Option<PathBuf>,
}

impl Call {
    fn read(args: &[OsString]) -> Self {
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
            // Both take one dash as well as two.
            let flag = format!("--{}", flag.trim_start_matches('-'));
            let dashed = text.starts_with('-');
            if !dashed {
                command = command.or(Some(arg));
                continue;
            }
            let mut value = || inline.clone().or_else(|| args.next().map(PathBuf::from));
            match (command, flag.as_str()) {
                (None, "--log") => call.log = value(),
                (None, flag) if GLOBAL_WITH_VALUE.contains(&flag) => drop(value()),
                (Some(_), "--bundle" | "--b") => call.bundle = value().unwrap_or_default(),
                _ => {}
            }
        }
        call.makes_container = command.is_some_and(|c| c == "create" || c == "run");
        call
    }
}

fn prepare(call: &Call) -> Result<Policy, Error> {
    let host = |source| Error::Host {
        path: "/".into(),
        source,
    };
    let root = Root::host().map_err(host)?;
    // The variable nvidia-container-toolkit 1.17 reads; ours is the engine's environment,
    // never a container's.
    let policy = match env::var_os("NVIDIA_CTK_CONFIG_FILE_PATH") {
        Some(path) => Policy::load_from(&root, Path::new(&path))?,
        None => Policy::load(&root)?,
    };
    if !call.makes_container {
        return Ok(policy);
    }
    let bundle = Bundle::at(&call.bundle);
    let mut config = bundle.config()?;
    let request = Request::read(ContainerView::new(&config), &policy)?;
    if !request.is_some() {
        return Ok(policy);
    }
    let inventory = inventory_store::current(&root, &policy)?;
    let edits = plan::plan(&inventory, &request, &policy)?;
    spec::apply(&mut config, &edits, &hook_path())?;
    bundle.write_config(&config)?;
    Ok(policy)
}

/// The hook is this very program under its other name, beside it or where packages put it.
fn hook_path() -> PathBuf {
    let packaged = Path::new(generate::HOOK_PATH);
    if packaged.exists() {
        return packaged.to_owned();
    }
    env::current_exe().unwrap_or_else(|_| packaged.to_owned())
}

/// Becomes the low-level runtime; returns only with an error.
fn exec(policy: &Policy, args: &[OsString]) -> Result<ExitCode, Error> {
    let tried = policy.runtimes.join(", ");
    let program = policy.runtimes.iter().find_map(|r| find(r)).ok_or_else(|| {
        Error::State(format!(
            "none of the low-level runtimes {tried} is installed; install runc, or name one in {} (nvidia-container-runtime.runtimes)",
            policy.path.display()
        ))
    })?;
    let source = Command::new(&program).args(args).exec();
    Err(Error::Host {
        path: program,
        source,
    })
}

/// A program by name or path, never ourselves: a shim that runs itself never ends.
fn find(name: &str) -> Option<PathBuf> {
    let own = env::current_exe().ok().and_then(|p| p.canonicalize().ok());
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(DIRS.map(PathBuf::from));
    // `join` with an absolute name is that name.
    dirs.filter(|d| d.is_absolute())
        .map(|d| d.join(name))
        .find(|p| p.is_file() && p.canonicalize().ok() != own)
}

#[cfg(test)]
mod tests {
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
    fn a_container_called_create_is_no_command() {
        assert!(!call("delete create").makes_container);
        assert!(!call("--root create state x").makes_container);
        assert!(!call("--log").makes_container);
        assert!(!call("start run").makes_container);
    }
}
