//! The OCI runtime shim. For `create` and `run` it edits config.json if the container requests GPUs;
//! then it executes the low-level runtime with the unchanged command line.

mod cdi_devices;
mod command_line;
mod family;
mod flags;
mod low_level;
mod mount_owner;
mod program_kind;

use std::env;
use std::ffi::OsString;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use cdi::LazyJson;
use gpu_host::Root;
use gpu_inject::generate::{self, inventory_store};
use gpu_inject::oci::{Arrangement, ContainerView, Scan};
use gpu_inject::oci::{ConfigFacts, Mounter};
use gpu_inject::policy::{Level, OFF_SWITCH, OffSwitch, Policy};
use gpu_inject::request::{Request, names_a_way};
use gpu_inject::{Error, Message, live, oci, plan};

use crate::exit::ExitCode;
use crate::host_policy::PolicyState;
use crate::log::{self, DebugLog};
use crate::oci_bundle::{ConfigJson, OciBundle};
pub(crate) use command_line::is_name;
use command_line::{Call, ProgramName};
use low_level::{Candidates, exec, usual};

/// Runs the shim; `name` may select a mode or a low-level runtime.
pub(crate) fn run(name: &str, args: &[OsString]) -> ExitCode {
    let call = Call::read(args);
    // The ID of a new container is the last argument (runc-create(8)).
    let id = if call.makes_container {
        args.last()
    } else {
        call.ids.first()
    };
    if let Some(id) = id {
        log::about(&id.to_string_lossy());
    }
    let program = ProgramName::by(name);
    if call.asks_version {
        // The low-level runtime then prints its own version, as with nvidia-container-runtime.
        log::tell(concat!(
            "gpu-container-runtime version ",
            env!("CARGO_PKG_VERSION")
        ));
    }
    match prepare(&call, &program).and_then(|low_level| exec(low_level, args)) {
        Ok(never) => never,
        Err(e) => {
            log::failure(&e, call.log.as_deref());
            ExitCode::FAILURE
        }
    }
}

/// Does everything that comes before the low-level runtime, and returns the path of that runtime.
fn prepare(call: &Call, program: &ProgramName) -> Result<PathBuf, Error> {
    // The environment may be used, because it is the engine's and never a container's.
    let policy =
        PolicyState::read(|root| Policy::path_in_environment(root, |name| env::var_os(name)));
    let known = policy.known();
    let candidates = Candidates::of(known, program.low_level.as_ref());
    // Running containers can be stopped whatever our files look like.
    if !call.makes_container {
        return candidates.for_existing(call);
    }
    let (low_level, missing) = match candidates.for_new() {
        Ok(low_level) => (low_level, None),
        Err(why) => match usual() {
            Some(low_level) => (low_level, Some(why)),
            None => return Err(why),
        },
    };
    if is_off(call) {
        return Ok(low_level);
    }
    let mut debug_log = DebugLog::open(known.debug.as_deref(), known.log_level);
    let result = match policy {
        PolicyState::Sound(root, policy) => edit(
            call,
            program,
            &root,
            &policy,
            (&low_level, missing),
            &mut debug_log,
        ),
        PolicyState::Broken(broken) => {
            let warning = broken.ensure_no_gpu_asked(&OciBundle::at(&call.bundle));
            warning.map(|text| tell(&text, call, &mut debug_log))
        }
    };
    if let Err(e) = &result {
        debug_log.note(Level::Error, e);
    }
    result.map(|()| low_level)
}

/// Whether the shim is turned off. Then a container gets what is in its config.json already and nothing from us.
fn is_off(call: &Call) -> bool {
    let switch = OffSwitch::of(Path::new("/"));
    match switch {
        OffSwitch::Unset => return false,
        OffSwitch::Set => log::warning_in(
            call.log.as_deref(),
            &Message::of(format_args!(
                "turned off by {OFF_SWITCH}: no container is given GPUs by this runtime"
            )),
        ),
        OffSwitch::NotRoots => log::warning(format_args!(
            "{OFF_SWITCH} turns nothing off: it must be a file of root's that nobody else can write"
        )),
    }
    switch == OffSwitch::Set
}

/// Edits config.json, if the container requests GPUs.
fn edit(
    call: &Call,
    program: &ProgramName,
    root: &Root,
    policy: &Policy,
    (low_level, missing): (&Path, Option<Error>),
    debug_log: &mut DebugLog,
) -> Result<(), Error> {
    let bundle = OciBundle::at(&call.bundle);
    let mode = program.mode.unwrap_or(policy.mode);
    let text = match bundle.config()? {
        ConfigJson::Text(text) => text,
        ConfigJson::NoFile => return pass_on(&bundle.no_file(), call, debug_log),
        ConfigJson::Long(file) => {
            let scan = match bundle.scan(file, &policy.annotation_prefixes) {
                Ok(scan) => scan,
                Err(why) if bundle.names_a_way(policy)? => return Err(why),
                Err(why) => return pass_on(&why, call, debug_log),
            };
            let request = Request::read_in(ContainerView::of(&scan), policy, mode)?;
            warn(&request, call, debug_log);
            if request.is_some() {
                return Err(missing.unwrap_or_else(|| bundle.too_long()));
            }
            return without(missing, low_level, call, debug_log);
        }
    };
    let (scan, value);
    let container = if let Some(scanned) = Scan::read(&text) {
        scan = scanned;
        ContainerView::of(&scan)
    } else {
        value = match bundle.value(&text) {
            Ok(value) => value,
            Err(why) if names_a_way(&*text, policy).unwrap_or(true) => return Err(why),
            Err(why) => return pass_on(&why, call, debug_log),
        };
        ContainerView::new(&value)
    };
    let request = Request::read_in(container, policy, mode)?;
    warn(&request, call, debug_log);
    if !request.is_some() {
        debug_log.note(Level::Debug, "no GPU is asked for");
        return without(missing, low_level, call, debug_log);
    }
    if let Some(missing) = missing {
        return Err(missing);
    }
    let (visible, parts) = (&request.visible, &request.capabilities);
    debug_log.note(
        Level::Debug,
        format_args!("asked for: {visible:?}, with {parts}"),
    );
    // Without its own mount namespace the container's mounts would be made on the host and stay there.
    // If config.json lists no namespaces at all, the hook checks this itself.
    if container.lacks_mount_namespace() {
        return Err(Error::State(
            "the container has no mount namespace of its own, so what it is given would be mounted on the \
             host; config.json needs one (linux.namespaces, type mount)"
                .into(),
        ));
    }
    // ManuallyDrop: freeing these would waste time, since this process executes another program next.
    let mut config = ManuallyDrop::new(bundle.document(&text)?);
    let names = cdi_devices::names(&request.visible, mode)?;
    let is_done = match names {
        Some(names) => cdi_devices::apply(&mut config, names, mode, policy)?,
        None => false,
    };
    if !is_done {
        let inventory = ManuallyDrop::new(inventory_store::current(root, policy)?);
        let mut edits = ManuallyDrop::new(plan::plan(&inventory, &request, policy)?);
        for text in plan::left_out(&inventory, &request) {
            tell(&text, call, debug_log);
        }
        let mounter = mount_owner::choose(container, &edits, policy, low_level);
        if mounter == Mounter::Runtime {
            for text in live::leave_out_unreachable(&mut edits) {
                debug_log.note(Level::Debug, &text);
            }
        }
        let facts = ConfigFacts {
            rootfs: container.root_path(),
            arrangement: Arrangement {
                own_dev: container.has_own_dev(),
                no_shared_mounts: Arrangement::has_no_shared_mounts(&text),
            },
        };
        oci::apply(&mut config, &edits, &hook_path()?, mounter, facts)?;
    }
    remove_hooks(&mut config);
    bundle.write_config(&config)?;
    let how = if is_done { "by CDI specs" } else { "by plan" };
    let bundle = call.bundle.display();
    debug_log.note(Level::Info, format_args!("{bundle}: GPUs given {how}"));
    Ok(())
}

/// Logs the parts of the request that are ignored.
fn warn(request: &Request, call: &Call, debug_log: &mut DebugLog) {
    for text in &request.warnings {
        tell(text, call, debug_log);
    }
}

/// Logs that a config.json was left to the low-level runtime as it is. It asks for no GPU by any name.
#[allow(clippy::unnecessary_wraps, reason = "the result of `edit`")]
fn pass_on(why: &Error, call: &Call, debug_log: &mut DebugLog) -> Result<(), Error> {
    let text = Message::of(format_args!(
        "left to the low-level runtime as it is: {why}"
    ));
    tell(&text, call, debug_log);
    Ok(())
}

/// Logs that a container that asks for no GPU is started by a runtime that the policy does not name.
#[allow(clippy::unnecessary_wraps, reason = "the result of `edit`")]
fn without(
    missing: Option<Error>,
    low_level: &Path,
    call: &Call,
    debug_log: &mut DebugLog,
) -> Result<(), Error> {
    if let Some(missing) = missing {
        let text = Message::of(format_args!(
            "this container asks for no GPU and is started by {}; one that asks is refused: {missing}",
            low_level.display()
        ));
        tell(&text, call, debug_log);
    }
    Ok(())
}

fn tell(text: &Message, call: &Call, debug_log: &mut DebugLog) {
    debug_log.note(Level::Warning, text);
    log::warning_in(call.log.as_deref(), text);
}

/// Removes hooks of an engine or of a hooks.d file that would inject GPUs a second time.
fn remove_hooks(config: &mut LazyJson<'_>) {
    let is_gpu_hook = |hook: &LazyJson<'_>| {
        let path: String = hook.get(&["path"]).unwrap_or_default();
        let name = Path::new(&path).file_name().unwrap_or_default();
        name == "nvidia-container-runtime-hook" || name == "nvidia-container-toolkit"
    };
    for stage in ["prestart", "createRuntime"] {
        if let Some(hooks) = config.list_at(&["hooks", stage]) {
            hooks.retain(|hook| !is_gpu_hook(hook));
        }
    }
}

/// The path of our hook: the one in packages, else this program, which is also the hook.
fn hook_path() -> Result<PathBuf, Error> {
    let packaged = Path::new(generate::HOOK_PATH);
    if packaged.exists() {
        return Ok(packaged.to_owned());
    }
    env::current_exe().map_err(|source| Error::Host {
        path: packaged.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hooks_that_inject_gpus_are_removed() {
        let hook = |path: &str| serde_json::json!({ "path": path });
        let removed = |config: &serde_json::Value| -> serde_json::Value {
            let text = config.to_string();
            let mut config = LazyJson::parse(text.as_bytes()).unwrap();
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
