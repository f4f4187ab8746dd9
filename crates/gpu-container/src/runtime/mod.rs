//! The OCI runtime shim: `create` and `run` edit config.json for a container that asks
//! for GPUs; everything else goes to the low-level runtime untouched.

mod by_cdi;
mod mounter;

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::iter::once;
use std::mem::ManuallyDrop;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cdi::Document;
use gpu_host::{Root, programs};
use gpu_inject::generate::{self, inventory_store};
use gpu_inject::oci::{Arrangement, ContainerView, Scan};
use gpu_inject::oci::{Mounter, ToldToHook};
use gpu_inject::policy::{Level, Mode, Policy};
use gpu_inject::request::Request;
use gpu_inject::{Error, live, oci, plan};
use nix::unistd::execv;

use crate::bundle::{Bundle, Config};
use crate::exit::ExitCode;
use crate::log::{self, Journal};

/// Names of this program, alone or with a suffix.
const NAMES: [&str; 2] = ["gpu-container-runtime", "nvidia-container-runtime"];

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

/// Runs as an OCI runtime of that name.
pub(crate) fn run(name: &str, args: &[OsString]) -> ExitCode {
    let call = Call::read(args);
    // The command's last word (runc-create(8)).
    if let Some(id) = args.last().filter(|_| call.makes_container) {
        log::about(&id.to_string_lossy());
    }
    let called = Called::by(name);
    if call.asks_version {
        // The low-level runtime's own lines follow, as with nvidia-container-runtime.
        log::tell(concat!(
            "gpu-container-runtime version ",
            env!("CARGO_PKG_VERSION")
        ));
    }
    match prepare(&call, &called).and_then(|low_level| exec(low_level, args)) {
        Ok(never) => never,
        Err(e) => {
            log::failure(&e, call.log.as_deref());
            ExitCode::FAILURE
        }
    }
}

/// What the program's name says: `….cdi` and `….legacy` are modes (nvidia-container-toolkit
/// `cmd/nvidia-container-runtime.cdi`), `…-crun` the low-level runtime to look for first. So
/// an engine that has to have crun gets it by the path in its own configuration, whatever
/// another engine on the host has to have.
#[derive(Debug, Default, PartialEq, Eq)]
struct Called {
    mode: Option<Mode>,
    low_level: Option<String>,
}

impl Called {
    fn by(name: &str) -> Self {
        let suffix = NAMES.iter().find_map(|n| name.strip_prefix(n));
        let suffix = suffix.unwrap_or_default();
        match suffix.split_at_checked(1) {
            Some((".", mode)) => Self {
                mode: Mode::from_word(mode),
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

/// Whether a program of that name is this one.
pub(crate) fn is_name(name: &str) -> bool {
    NAMES.contains(&name) || Called::by(name) != Called::default()
}

/// What of the command line concerns us.
#[derive(Debug, Default, PartialEq, Eq)]
struct Call {
    makes_container: bool,
    asks_version: bool,
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

/// What is to be done before the low-level runtime, which is returned.
fn prepare(call: &Call, called: &Called) -> Result<PathBuf, Error> {
    let host = |source| Error::Host {
        path: "/".into(),
        source,
    };
    let root = Root::host().map_err(host)?;
    // Ours is the engine's environment, never a container's.
    let policy = Policy::from_environment(&root, |name| env::var_os(name));
    if !call.makes_container {
        // A policy that cannot be read lets nothing start, but what runs can be stopped.
        return low_level(&policy.unwrap_or_default(), called);
    }
    let policy = policy?;
    let low_level = low_level(&policy, called)?;
    let mut journal = Journal::open(policy.debug.as_deref(), policy.log_level);
    let done = edit(call, called, &root, &policy, &low_level, &mut journal);
    if let Err(e) = &done {
        journal.note(Level::Error, e);
    }
    done.map(|()| low_level)
}

/// Edits config.json of a container that asks for GPUs.
fn edit(
    call: &Call,
    called: &Called,
    root: &Root,
    policy: &Policy,
    low_level: &Path,
    journal: &mut Journal,
) -> Result<(), Error> {
    let bundle = Bundle::at(&call.bundle);
    let mode = called.mode.unwrap_or(policy.mode);
    let text = match bundle.config()? {
        Config::Text(text) => text,
        Config::Long(file) => {
            let scan = bundle.scan(file, &policy.annotation_prefixes)?;
            let request = Request::read_in(ContainerView::of(&scan), policy, mode)?;
            warn(&request, call, journal);
            if request.is_some() {
                return Err(bundle.too_long());
            }
            return Ok(());
        }
    };
    let (scan, value);
    let container = if let Some(found) = Scan::read(&text) {
        scan = found;
        ContainerView::of(&scan)
    } else {
        value = bundle.value(&text)?;
        ContainerView::new(&value)
    };
    let request = Request::read_in(container, policy, mode)?;
    warn(&request, call, journal);
    if !request.is_some() {
        journal.note(Level::Debug, "no GPU is asked for");
        return Ok(());
    }
    let (visible, parts) = (&request.visible, &request.capabilities);
    journal.note(
        Level::Debug,
        format_args!("asked for: {visible:?}, with {parts}"),
    );
    // Mounts of config.json and of our hook would be the host's, and stay. Where nothing is listed the
    // hook sees for itself.
    if container.lacks_mount_namespace() {
        return Err(Error::State(
            "the container has no mount namespace of its own, so what it is given would be mounted on the \
             host; config.json needs one (linux.namespaces, type mount)"
                .into(),
        ));
    }
    // None of these is dropped: this process is about to be another program.
    let mut config = ManuallyDrop::new(bundle.document(&text)?);
    let names = by_cdi::names(&request.visible, mode)?;
    let is_done = match names {
        Some(names) => by_cdi::apply(&mut config, names, mode, policy)?,
        None => false,
    };
    if !is_done {
        let inventory = ManuallyDrop::new(inventory_store::current(root, policy)?);
        let mut edits = ManuallyDrop::new(plan::plan(&inventory, &request, policy)?);
        let mounter = mounter::choose(container, &edits, policy, low_level);
        if mounter == Mounter::Runtime {
            for text in live::leave_out_unreachable(&mut edits) {
                journal.note(Level::Debug, &text);
            }
        }
        let told = ToldToHook {
            rootfs: container.root_path(),
            arrangement: Arrangement {
                own_dev: container.has_own_dev(),
                no_shared_mounts: Arrangement::has_no_shared_mounts(&text),
            },
        };
        oci::apply(&mut config, &edits, &hook_path(), mounter, told)?;
    }
    remove_hooks(&mut config);
    bundle.write_config(&config)?;
    let how = if is_done { "by CDI specs" } else { "by plan" };
    let bundle = call.bundle.display();
    journal.note(Level::Info, format_args!("{bundle}: GPUs given {how}"));
    Ok(())
}

/// What is asked for and passed over.
fn warn(request: &Request, call: &Call, journal: &mut Journal) {
    for text in &request.warnings {
        journal.note(Level::Warning, text);
        log::warning_in(call.log.as_deref(), text);
    }
}

/// Hooks by which an engine, or a hooks.d file, would have it done a second time.
fn remove_hooks(config: &mut Document<'_>) {
    let is_ours = |hook: &Document<'_>| {
        let path: String = hook.get(&["path"]).unwrap_or_default();
        let name = Path::new(&path).file_name().unwrap_or_default();
        name == "nvidia-container-runtime-hook" || name == "nvidia-container-toolkit"
    };
    for stage in ["prestart", "createRuntime"] {
        if let Some(hooks) = config.list_at(&["hooks", stage]) {
            hooks.retain(|hook| !is_ours(hook));
        }
    }
}

/// The hook is this very program under its other name, beside it or where packages put it.
fn hook_path() -> PathBuf {
    let packaged = Path::new(generate::HOOK_PATH);
    if packaged.exists() {
        return packaged.to_owned();
    }
    env::current_exe().unwrap_or_else(|_| packaged.to_owned())
}

/// The first that is installed.
fn low_level(policy: &Policy, called: &Called) -> Result<PathBuf, Error> {
    let wanted: Vec<&String> = called.low_level.iter().chain(&policy.runtimes).collect();
    wanted.iter().find_map(|r| find(r)).ok_or_else(|| {
        let tried: Vec<&str> = wanted.iter().map(|r| r.as_str()).collect();
        let tried = tried.join(", ");
        let why = format!(
            "none of the low-level runtimes {tried} is installed; install runc, or name one in {} (nvidia-container-runtime.runtimes)",
            policy.path.display()
        );
        Error::State(why.into())
    })
}

/// Becomes the low-level runtime; returns only with an error.
fn exec(program: PathBuf, args: &[OsString]) -> Result<ExitCode, Error> {
    log::end();
    let done = text(program.as_os_str()).and_then(|name| {
        let args = args.iter().map(|arg| text(arg));
        let all = once(Ok(name.clone()))
            .chain(args)
            .collect::<Result<Vec<_>, _>>()?;
        // std's would set SIGPIPE back, which may have been ignored.
        Ok(execv(&name, &all).map(|never| match never {})?)
    });
    done.map_err(|source| Error::Host {
        path: program,
        source,
    })
}

fn text(of: &OsStr) -> io::Result<CString> {
    Ok(CString::new(of.as_bytes())?)
}

/// A program by name or path, never ourselves: a shim that runs itself never ends.
fn find(name: &str) -> Option<PathBuf> {
    let own = fs::metadata("/proc/self/exe").map(|m| (m.dev(), m.ino()));
    let is_own = |found: &Metadata| own.as_ref().is_ok_and(|o| *o == (found.dev(), found.ino()));
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(programs::DIRS.map(PathBuf::from));
    // `join` with an absolute name is that name.
    dirs.filter(|d| d.is_absolute())
        .map(|d| d.join(name))
        .find(|p| fs::metadata(p).is_ok_and(|found| found.is_file() && !is_own(&found)))
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
    fn a_container_called_create_is_no_command() {
        assert!(!call("delete create").makes_container);
        assert!(!call("--root create state x").makes_container);
        assert!(!call("--log").makes_container);
        assert!(!call("start run").makes_container);
        // A flag without a value does not take the command for one.
        assert!(call("--debug create --bundle /b id").makes_container);
        assert!(call("--systemd-cgroup run id").makes_container);
    }

    #[test]
    fn version_is_asked_for_before_the_command_only() {
        assert!(call("--version").asks_version && call("-version").asks_version);
        assert!(!call("exec id ls --version").asks_version);
    }

    #[test]
    fn the_programs_name_says_the_mode_and_the_low_level_runtime() {
        let called = |name: &str| Called::by(name);
        assert_eq!(called("nvidia-container-runtime"), Called::default());
        assert_eq!(called("nvidia-container-runtime.cdi").mode, Some(Mode::Cdi));
        let legacy = called("gpu-container-runtime.legacy");
        assert_eq!(legacy.mode, Some(Mode::Legacy));
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

    #[test]
    fn hooks_that_would_do_it_again_go_and_others_stay() {
        let hook = |path: &str| serde_json::json!({ "path": path });
        let removed = |config: &serde_json::Value| -> serde_json::Value {
            let text = config.to_string();
            let mut config = Document::parse(text.as_bytes()).unwrap();
            remove_hooks(&mut config);
            config.get(&[]).unwrap()
        };
        let config = removed(&serde_json::json!({"hooks": {
            "prestart": [
                hook("/usr/bin/nvidia-container-runtime-hook"),
                hook("/opt/mine"),
                hook("nvidia-container-toolkit"),
            ],
            "poststop": [hook("/usr/bin/nvidia-container-runtime-hook")],
        }}));
        assert_eq!(
            config["hooks"]["prestart"],
            serde_json::json!([hook("/opt/mine")])
        );
        assert_eq!(
            config["hooks"]["poststop"].as_array().map(Vec::len),
            Some(1)
        );
        let odd = serde_json::json!({"hooks": {"prestart": 1}});
        assert_eq!(removed(&odd), odd);
    }
}
