//! The hook of `docker run --gpus`: dockerd adds it to the spec of a container that asks
//! for GPUs that way and looks for it by the name `nvidia-container-runtime-hook`
//! (moby `daemon/nvidia_linux.go`).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use gpu_inject::generate::inventory_store;
use gpu_inject::oci::{Arrangement, ContainerView, Scan};
use gpu_inject::policy::{self, Level, Policy};
use gpu_inject::request::Request;
use gpu_inject::{Error, live, plan};

use super::confine;
use crate::exit::ExitCode;
use crate::host_policy::PolicyState;
use crate::log;
use crate::oci_bundle::{ConfigJson, HookState, OciBundle};

/// `[-config FILE] [-debug] prestart|poststart|poststop`
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let mut config = None;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.to_str().unwrap_or_default().trim_start_matches('-') {
            "config" => config = args.next().map(PathBuf::from),
            "debug" => {}
            "version" => {
                log::tell(concat!(
                    "nvidia-container-runtime-hook, by gpu-container ",
                    env!("CARGO_PKG_VERSION")
                ));
                return ExitCode::SUCCESS;
            }
            // Nothing is left to do at these points.
            "poststart" | "poststop" => {
                HookState::pass_over();
                return ExitCode::SUCCESS;
            }
            "prestart" => {
                return match prestart(config.as_deref()) {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(e) => {
                        log::failure(&e, None);
                        ExitCode::FAILURE
                    }
                };
            }
            other => {
                log::say(&format!(
                    "nvidia-container-runtime-hook: unknown command {other:?}; prestart is one"
                ));
                return ExitCode::from(4);
            }
        }
    }
    log::say("nvidia-container-runtime-hook: no command; prestart is one");
    ExitCode::from(4)
}

fn prestart(policy: Option<&Path>) -> Result<(), Error> {
    let systemd = confine::prestart_hook();
    let state = HookState::from_stdin()?;
    let path = policy.unwrap_or(Path::new(policy::PATH));
    let (root, policy) = match PolicyState::read(|_| path.to_owned()) {
        PolicyState::Sound(root, policy) => (root, policy),
        // A hooks.d file can name this hook for every container.
        PolicyState::Broken(broken) => {
            log::warning(broken.ensure_no_gpu_asked(&state.bundle)?);
            return Ok(());
        }
    };
    let config = state.bundle.config()?;
    let mut journal = log::DebugLog::open(policy.cli_debug.as_deref(), policy.log_level);
    let (request, arrangement) = request(config, &state.bundle, &policy)?;
    for warning in &request.warnings {
        log::warning(warning);
        journal.note(Level::Warning, warning);
    }
    if !request.is_some() {
        return Ok(());
    }
    let process = state.process()?;
    let inventory = inventory_store::current(&root, &policy)?;
    let edits = plan::plan(&inventory, &request, &policy)?;
    for warning in plan::left_out(&inventory, &request) {
        log::warning(&warning);
        journal.note(Level::Warning, &warning);
    }
    let mut target = live::Target::of_process(&process, state.rootfs()?)?;
    target.no_cgroups = policy.no_cgroups;
    target.arrangement = arrangement;
    target.config = Some(state.bundle.config_path());
    target.systemd = systemd;
    let done = live::inject(&target, &edits);
    match &done {
        Ok(notes) => {
            log::notes(&notes.warnings);
            log::debug(&notes.left_out);
            for text in &notes.left_out {
                journal.note(Level::Debug, text);
            }
            journal.note(
                Level::Info,
                format_args!("{target} has {:?}", request.visible),
            );
        }
        Err(e) => journal.note(Level::Error, e),
    }
    done.map(drop)
}

/// The request, and facts about mounts from config.json.
fn request(
    config: ConfigJson,
    bundle: &OciBundle,
    policy: &Policy,
) -> Result<(Request, Arrangement), Error> {
    let both = |view: ContainerView<'_>| {
        let arrangement = Arrangement {
            own_dev: view.has_own_dev(),
            ..Arrangement::default()
        };
        Ok((Request::read(view, policy)?, arrangement))
    };
    let text = match config {
        ConfigJson::Text(text) => text,
        ConfigJson::NoFile => return Err(bundle.no_file()),
        // Annotations do not count here, and only some mounts are kept.
        ConfigJson::Long(file) => {
            let scan = bundle.scan(file, &[])?;
            let request = Request::read(ContainerView::of(&scan), policy)?;
            return Ok((request, Arrangement::default()));
        }
    };
    match Scan::read(&text) {
        Some(scan) => both(ContainerView::of(&scan)),
        None => both(ContainerView::new(&bundle.value(&text)?)),
    }
}
