//! The OCI runtime shim: `create` and `run` edit config.json for a container that asks
//! for GPUs; everything else goes to the low-level runtime untouched.

mod cdi_devices;
mod command_line;
mod low_level;
mod mount_owner;

use std::env;
use std::ffi::OsString;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use cdi::LazyJson;
use gpu_host::Root;
use gpu_inject::generate::{self, inventory_store};
use gpu_inject::oci::{Arrangement, ContainerView, Scan};
use gpu_inject::oci::{Mounter, ToldToHook};
use gpu_inject::policy::{Level, Policy};
use gpu_inject::request::Request;
use gpu_inject::{Error, live, oci, plan};

use crate::exit::ExitCode;
use crate::log::{self, Journal};
use crate::oci_bundle::{Bundle, Config};
pub(crate) use command_line::is_name;
use command_line::{Call, Called};
use low_level::{exec, low_level};

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
        return low_level(&policy.unwrap_or_default(), called.low_level.as_ref());
    }
    let policy = policy?;
    let low_level = low_level(&policy, called.low_level.as_ref())?;
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
    let names = cdi_devices::names(&request.visible, mode)?;
    let is_done = match names {
        Some(names) => cdi_devices::apply(&mut config, names, mode, policy)?,
        None => false,
    };
    if !is_done {
        let inventory = ManuallyDrop::new(inventory_store::current(root, policy)?);
        let mut edits = ManuallyDrop::new(plan::plan(&inventory, &request, policy)?);
        let mounter = mount_owner::choose(container, &edits, policy, low_level);
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
fn remove_hooks(config: &mut LazyJson<'_>) {
    let is_ours = |hook: &LazyJson<'_>| {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_that_would_do_it_again_go_and_others_stay() {
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
