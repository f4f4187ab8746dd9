//! The ways in which containers of an engine can ask for GPUs, and what each lacks on this host.

use std::any::Any;
use std::path::Path;

use serde_json::Value;

use crate::doctor::engine_state::GpuWay;
use crate::doctor::facts::HostFacts;
use crate::doctor::spec_files::SpecFile;
use crate::engines::cdi_versions;
use crate::engines::containerd::{self, Containerd, schema};
use crate::engines::crio;
use crate::engines::docker::daemon_json::DaemonJson;
use crate::engines::docker::daemon_json_changes::CDI_BY_FEATURE;
use crate::engines::docker::{Docker, drop_in, runtime_entry};
use crate::engines::engine::{self, Engine, Management};
use crate::error::Error;
use crate::error::config_fault::ConfigFault;
use crate::model::setup_options::{Mode, SetupOptions};

/// The program that dockerd starts for `--gpus`.
pub const HOOK: &str = "nvidia-container-runtime-hook";
/// The devices that people ask for by CDI.
const KIND: &str = "nvidia.com/gpu";
const GPUS: &str = "--gpus";
const BY_DEVICE: &str = "--device nvidia.com/gpu=all";
/// The first containerd whose CRI applies CDI specs.
const CONTAINERD_CDI: (u32, u32) = (1, 7);

/// The ways of an engine.
pub enum EngineWays {
    /// These.
    These(Vec<GpuWay>),
    /// Its configuration cannot be looked at, for this reason.
    NotKnown(String),
    /// gpusetup sets nothing up in it, for this reason.
    LeftAlone(String),
}

/// The ways of that engine.
pub fn of(look: &HostFacts, engine: &dyn Engine) -> EngineWays {
    let facts = engine.facts();
    if let Management::Unmanaged { why, .. } = &facts.management {
        return EngineWays::LeftAlone(why.clone());
    }
    let kind: &dyn Any = engine;
    let ways = if let Some(docker) = kind.downcast_ref::<Docker>() {
        of_docker(look, docker)
    } else if let Some(containerd) = kind.downcast_ref::<Containerd>() {
        if is_without_cri(look, containerd) {
            let why = "CRI is disabled in it, and no kubelet is here";
            return EngineWays::LeftAlone(why.into());
        }
        let has_cdi = containerd.layout.place().version >= CONTAINERD_CDI;
        of_cri(look, engine, has_cdi)
    } else if facts.name == "crio" {
        let version = look.engine_version("crio");
        of_cri(look, engine, version.is_none_or(|v| v >= crio::CDI))
    } else if engine.is_reached() {
        no_spec(look).map(|no_spec| {
            let lacks = refusal_of_spec(look, engine).or(no_spec);
            vec![GpuWay::by_cdi(BY_DEVICE, lacks)]
        })
    } else {
        let why = facts.notes.first().cloned();
        return EngineWays::LeftAlone(why.unwrap_or_else(|| "it knows no CDI".into()));
    };
    match ways {
        Ok(mut ways) => {
            restrict(look, &mut ways);
            EngineWays::These(ways)
        }
        Err(why) => EngineWays::NotKnown(why),
    }
}

/// Notes whom the ways are for that the policy does not leave to every container. CDI devices are named by whoever
/// starts the container.
fn restrict(look: &HostFacts, ways: &mut [GpuWay]) {
    let Some(policy) = look.policy().filter(|policy| !policy.accept_unprivileged) else {
        return;
    };
    for way in ways.iter_mut().filter(|way| !way.is_cdi) {
        way.only = Some(if policy.accept_mounts && way.how != GPUS {
            "privileged, or asked for by volume mounts"
        } else {
            "privileged containers alone"
        });
    }
}

/// Whether nothing would read what is set up in this containerd.
fn is_without_cri(look: &HostFacts, containerd: &Containerd) -> bool {
    let is_off = containerd.files.as_ref().is_ok_and(schema::is_off);
    containerd.facts.name == "containerd" && is_off && !containerd::has_kubelet(look.host)
}

fn of_docker(look: &HostFacts, docker: &Docker) -> Result<Vec<GpuWay>, String> {
    let facts = docker.facts();
    let file = docker.daemon_json().map_err(ToString::to_string)?;
    let version = facts.version.as_deref().map(engine::major_minor);
    let cdi = docker_cdi(look, file, version)?;
    let mut ways = Vec::new();
    if !docker.is_of_user() {
        // From then on dockerd does `--gpus` by CDI if there is no hook.
        let by_cdi = version.is_some_and(|v| v >= drop_in::GPUS_BY_CDI) && cdi.is_none();
        let lacks = no_hook(look, docker).filter(|_| !by_cdi);
        ways.push(GpuWay {
            is_cdi: by_cdi && no_hook(look, docker).is_some(),
            ..GpuWay::new(GPUS, lacks)
        });
    }
    let name = SetupOptions::default().runtime_name;
    let lacks = no_runtime(look, docker, file, &name);
    ways.push(GpuWay::new(format!("--runtime {name}"), lacks));
    if version.is_none_or(|v| v >= CDI_BY_FEATURE.start) && !docker.is_blind() {
        ways.push(GpuWay::by_cdi(BY_DEVICE, cdi));
    }
    Ok(ways)
}

/// What keeps `--gpus` from working by its hook.
pub fn no_hook(look: &HostFacts, docker: &Docker) -> Option<String> {
    let path = drop_in::search_path(docker.unit());
    let has = |dir: &str| look.exists(Path::new(dir).join(HOOK));
    (!path.split(':').any(has)).then(|| format!("no {HOOK} in {path}"))
}

fn no_runtime(look: &HostFacts, docker: &Docker, file: &DaemonJson, name: &str) -> Option<String> {
    let entry = file.get(&["runtimes", name]);
    let by_file = entry.and_then(|e| e.get("path")).and_then(Value::as_str);
    let flags = docker.unit().flags("--add-runtime");
    let by_flag = flags
        .iter()
        .find_map(|f| f.strip_prefix(&format!("{name}=")));
    // A runtime of another kind has a type in place of a path.
    if entry.is_some() && by_file.is_none() {
        return None;
    }
    match by_file.or(by_flag) {
        None => Some(format!("no runtime {name:?} in {}", file.path.display())),
        Some(program) if runtime_entry::exists(look.host, program) => None,
        Some(program) => Some(format!("{program} is not there")),
    }
}

fn docker_cdi(
    look: &HostFacts,
    file: &DaemonJson,
    version: Option<(u32, u32)>,
) -> Result<Option<String>, String> {
    let set = file.get(&["features", "cdi"]).and_then(Value::as_bool);
    let is_on = set.unwrap_or_else(|| version.is_some_and(|v| v >= CDI_BY_FEATURE.end));
    if is_on {
        no_spec(look)
    } else {
        let path = file.path.display();
        Ok(Some(format!("features.cdi is not true in {path}")))
    }
}

/// The ways of an engine that runs pods. Its own plan says what is missing.
fn of_cri(look: &HostFacts, engine: &dyn Engine, has_cdi: bool) -> Result<Vec<GpuWay>, String> {
    let options = look.was_wanted(engine).unwrap_or_default();
    let name = options.runtime_name.clone();
    let lacks = |mode: Mode, what: &str| {
        let options = SetupOptions {
            mode,
            default_runtime: false,
            ..options.clone()
        };
        match engine.changes(look.host, &options) {
            Ok(changes) => Ok(changes
                .first()
                .map(|change| format!("{what} in {}", change.path.display()))),
            // A runtime of another tool is one too.
            Err(Error::Config {
                fault: ConfigFault::OtherRuntime { .. },
                ..
            }) => Ok(None),
            Err(e) => Err(e.to_string()),
        }
    };
    let runtime = lacks(Mode::Runtime, &format!("no runtime {name:?}"))?;
    let mut ways = vec![GpuWay::new(format!("runtime {name}"), runtime)];
    if has_cdi {
        let cdi = lacks(Mode::Cdi, "CDI is off")?;
        let cdi = cdi.or_else(|| refusal_of_spec(look, engine));
        ways.push(GpuWay::by_cdi("CDI", cdi.or(no_spec(look)?)));
    }
    Ok(ways)
}

/// Why the engine does not take the spec that is there: it looks elsewhere, or is too old for it.
fn refusal_of_spec(look: &HostFacts, engine: &dyn Engine) -> Option<String> {
    let facts = engine.facts();
    let version = facts.version.as_deref().map(engine::major_minor);
    let too_new = cdi_versions::too_new(look.host, &facts.name, version);
    too_new.or_else(|| {
        let mut warnings = engine.warnings(look.host).into_iter();
        // A user's own file is of no matter to others.
        warnings.find(|w| w.contains(cdi_versions::LEAVES_OUT) && !w.starts_with("/home/"))
    })
}

/// Why the devices cannot be asked for by CDI, whatever the engine; an error if that is not known. On a host without a
/// driver, which gpusetup has set up, the spec is made at the first boot with one.
pub fn no_spec(look: &HostFacts) -> Result<Option<String>, String> {
    let devices = look.registry().devices();
    let mut ours = devices.iter().filter(|(name, _)| name.kind == KIND);
    if ours.any(|(_, file)| file.is_ok()) {
        return Ok(None);
    }
    if let Some(why) = look.spec_files().iter().find_map(SpecFile::refused) {
        return Err(why);
    }
    let is_made_later = look.loaded().is_none() && look.receipt().is_some();
    Ok((!is_made_later).then(|| format!("no CDI spec has {KIND}")))
}
