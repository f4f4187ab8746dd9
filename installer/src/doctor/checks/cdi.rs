//! Checks of CDI specs: whether they are there, up to date, readable and found by the engines.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cdi::Spec;
use gpu_inject::generate::{HOOK_PATH, SPEC_PATH};

use crate::doctor::checks::check::{Checks, evidence};
use crate::doctor::facts::HostFacts;
use crate::doctor::remedy::{Remedies, Remedy};
use crate::doctor::spec_files::{self, SpecFile};
use crate::doctor::ways;
use crate::engines::cdi_versions;
use crate::error::invocation::Invocation;
use crate::model::toolkit_traces::TraceKind;
use crate::setup::made_anew;

pub const CHECKS: Checks = &[
    ("cdi-missing", missing),
    ("cdi-stale", stale),
    ("cdi-paths-gone", paths_gone),
    ("cdi-hook-gone", hook_gone),
    ("cdi-conflict", conflict),
    ("cdi-shadowed", shadowed),
    ("cdi-broken", broken),
    ("cdi-closed", closed),
    ("cdi-name", name),
    ("cdi-too-new", too_new),
    ("cdi-dirs", dirs),
    ("cdi-two-writers", two_writers),
    ("refresh-off", refresh_off),
];

pub const REMEDIES: Remedies = &[
    ("cdi-missing", write),
    ("cdi-paths-gone", write_again),
    ("cdi-closed", open),
    ("refresh-off", refresh_on),
];

const UNIT: &str = "gpusetup-cdi.service";

fn missing(look: &HostFacts) -> Option<String> {
    look.loaded()?;
    if look.has_written(Path::new(SPEC_PATH)) {
        return (!look.exists(SPEC_PATH)).then(|| format!("{SPEC_PATH} is not there"));
    }
    look.ok(ways::no_spec(look))?
}

/// `--fix` makes only the spec that gpusetup keeps; another tool's is written by that tool.
fn write(look: &HostFacts, usual: Remedy) -> Remedy {
    if look.has_written(Path::new(SPEC_PATH)) {
        return usual;
    }
    let theirs = look.foreign().names(TraceKind::Program);
    let theirs = theirs.iter().find(|p| p.ends_with("/nvidia-ctk"));
    match theirs {
        Some(program) => usual
            .in_words("Write it with the tool that is here, or set the engines up.")
            .by(format!("{program} cdi generate --output={SPEC_PATH}"))
            .by_hand(),
        None => usual
            .in_words("Set the engines up, which writes it.")
            .by_ours(Invocation::Install)
            .by_hand(),
    }
}

fn stale(look: &HostFacts) -> Option<String> {
    let spec = Path::new(SPEC_PATH);
    let change = look.described().iter().find(|c| c.path == spec)?;
    let before = change.before.as_deref()?;
    let loaded = look.loaded()?.driver.as_ref()?.version.clone();
    let of = |text: &str| made_anew::driver_of(text).unwrap_or_default();
    let version = of(before);
    Some(if version.is_empty() || version == loaded {
        let count = |text: &str| {
            text.matches("\n- name:")
                .count()
                .max(text.matches("- name: ").count())
        };
        match (
            count(before),
            count(change.after.as_deref().unwrap_or_default()),
        ) {
            (had, has) if had != has => format!("it lists {had} devices, this host has {has}"),
            _ => "it is not what this host would get now".into(),
        }
    } else {
        format!("spec is for driver {version}, the loaded driver is {loaded}")
    })
}

/// The files that describe `nvidia.com/*`, each with its text.
fn specs<'a>(look: &'a HostFacts) -> impl Iterator<Item = (&'a SpecFile, &'a str)> {
    let files = look.spec_files().iter();
    let texts = files.filter_map(|file| Some((file, file.text()?)));
    texts.filter(|(_, text)| text.contains("nvidia.com/"))
}

/// Specs of other tools, each with the first path in it that is gone.
fn with_gone_paths<'a>(look: &'a HostFacts) -> Vec<(&'a Path, PathBuf)> {
    let hook = Path::new(HOOK_PATH).file_name().unwrap_or_default();
    let hook = hook.to_str().unwrap_or_default();
    let mut findings = Vec::new();
    for (file, text) in specs(look) {
        // `cdi-stale` reports our own spec, and `cdi-broken` a broken one.
        let Some(spec) = file
            .spec()
            .filter(|_| !text.contains(hook) && file.is_read())
        else {
            continue;
        };
        let edits = spec.devices.iter().map(|d| &d.container_edits);
        let mounts = edits.chain([&spec.container_edits]).flat_map(|e| &e.mounts);
        let gone = mounts
            .map(|m| &m.host_path)
            .find(|p| !look.exists(p.as_path()));
        findings.extend(gone.map(|gone| (file.path.as_path(), gone.clone())));
    }
    findings
}

fn paths_gone(look: &HostFacts) -> Option<String> {
    let findings = with_gone_paths(look).into_iter();
    let line =
        |(path, gone): (&Path, PathBuf)| format!("{}: {} is gone", path.display(), gone.display());
    evidence(findings.map(line).collect())
}

/// The command of the NVIDIA toolkit writes the spec of the GPUs, and no other.
fn write_again(look: &HostFacts, usual: Remedy) -> Remedy {
    let programs = look.foreign().names(TraceKind::Program);
    let program = programs.iter().find(|p| p.ends_with("/nvidia-ctk"));
    let specs = with_gone_paths(look);
    let paths: Vec<&Path> = specs.iter().map(|(path, _)| *path).collect();
    let is_of_gpus = |path: &Path| {
        let mut files = look.spec_files().iter().filter(|f| f.path == path);
        files.any(|f| f.spec().is_some_and(|s| s.kind == "nvidia.com/gpu"))
    };
    match (program, paths.as_slice()) {
        (Some(program), [path]) if is_of_gpus(path) => usual.by(format!(
            "{program} cdi generate --output={}",
            path.display()
        )),
        _ => usual.by_any(None),
    }
}

fn hook_gone(look: &HostFacts) -> Option<String> {
    let mut findings = Vec::new();
    for file in look.spec_files() {
        // `programs-gone` reports a missing hook of our own.
        let Some(spec) = file.spec().filter(|_| file.is_read()) else {
            continue;
        };
        let edits = spec.devices.iter().map(|d| &d.container_edits);
        let mut hooks = edits.chain([&spec.container_edits]).flat_map(|e| &e.hooks);
        let gone = hooks.find(|h| h.path != Path::new(HOOK_PATH) && !look.exists(&h.path));
        let path = file.path.display();
        findings.extend(gone.map(|hook| format!("{path} names {}", hook.path.display())));
    }
    evidence(findings)
}

fn conflict(look: &HostFacts) -> Option<String> {
    let registry = look.registry();
    let devices = registry.devices().into_iter();
    let ours = devices.filter(|(name, _)| name.kind.starts_with("nvidia.com/"));
    let findings: Vec<String> = ours
        .filter_map(|(_, file)| Some(file.err()?.to_string()))
        .collect();
    let first = findings.first()?;
    Some(match findings.len() {
        1 => first.clone(),
        n => format!("{first}; and {} more", n - 1),
    })
}

fn shadowed(look: &HostFacts) -> Option<String> {
    let registry = look.registry();
    let mut findings = Vec::new();
    for (file, _) in specs(look) {
        let has_devices = |spec: &&Spec| file.is_read() && !spec.devices.is_empty();
        let Some(spec) = file.spec().filter(has_devices) else {
            continue;
        };
        let used = registry.devices();
        let is_hidden = spec.devices.iter().all(|d| {
            let mut all = used.iter();
            let device = all.find(|(n, _)| n.kind == spec.kind && n.device == d.name);
            device.is_some_and(|(_, f)| f.as_ref().is_ok_and(|f| *f != file.path.as_path()))
        });
        if is_hidden {
            findings.push(format!(
                "{} is hidden by a later directory's",
                file.path.display()
            ));
        }
    }
    evidence(findings)
}

fn broken(look: &HostFacts) -> Option<String> {
    let registry = look.registry();
    let errors = registry.errors().iter();
    evidence(
        errors
            .map(|(path, e)| format!("{}: {e}", path.display()))
            .collect(),
    )
}

/// Specs that not every user can read, with their modes.
fn closed_specs<'a>(look: &'a HostFacts) -> Vec<(&'a Path, u32)> {
    let all = specs(look).filter_map(|(SpecFile { path, .. }, _)| {
        let mode = look.known(look.host.root().metadata(path).into())?.mode();
        Some((path.as_path(), mode & 0o7777))
    });
    all.filter(|(_, mode)| mode & 0o004 == 0).collect()
}

fn closed(look: &HostFacts) -> Option<String> {
    let findings = closed_specs(look).into_iter();
    let line = |(path, mode): (&Path, u32)| format!("{} has mode {mode:04o}", path.display());
    evidence(findings.map(line).collect())
}

fn open(look: &HostFacts, usual: Remedy) -> Remedy {
    let paths = closed_specs(look).into_iter();
    let paths: Vec<String> = paths.map(|(path, _)| path.display().to_string()).collect();
    usual.by(format!("chmod a+r {}", paths.join(" ")))
}

fn name(look: &HostFacts) -> Option<String> {
    let is_spec = |text: &str| text.contains("cdiVersion");
    let findings = specs(look).filter(|(file, text)| is_spec(text) && !file.is_read());
    let findings = findings.map(|(file, _)| &file.path);
    // An editor's backup beside a spec is not a misnamed spec.
    let is_copy = |path: &Path| {
        spec_files::is_spec_name(&path.with_extension("")) || path.to_string_lossy().ends_with('~')
    };
    let findings = findings.filter(|path| !is_copy(path));
    evidence(findings.map(|path| path.display().to_string()).collect())
}

fn too_new(look: &HostFacts) -> Option<String> {
    look.loaded()?;
    let engines = ["podman", "crio"].into_iter();
    let findings = engines.filter_map(|name| {
        look.engine(name)?;
        cdi_versions::too_new(look.host, name, look.engine_version(name))
    });
    evidence(findings.collect())
}

/// Each engine warns about its own configuration file; here those warnings are collected.
fn dirs(look: &HostFacts) -> Option<String> {
    let mut findings = Vec::new();
    for engine in look.engines() {
        let warnings = engine.warnings(look.host).into_iter();
        findings.extend(warnings.filter(|w| w.contains(cdi_versions::LEAVES_OUT)));
    }
    evidence(findings)
}

fn two_writers(look: &HostFacts) -> Option<String> {
    if !look.has_our_spec() {
        return None;
    }
    evidence(look.foreign().names(TraceKind::Unit))
        .map(|units| format!("{units} is started at boot too"))
}

/// Why the unit does not run at boot.
enum Off {
    Masked,
    NotInstalled,
    NotWanted,
}

fn refresh_off(look: &HostFacts) -> Option<String> {
    Some(match off(look)? {
        Off::Masked => format!("{UNIT} is masked"),
        Off::NotInstalled => format!("{UNIT} is not installed"),
        Off::NotWanted => format!("no target wants {UNIT}"),
    })
}

fn refresh_on(look: &HostFacts, usual: Remedy) -> Remedy {
    match off(look) {
        Some(Off::Masked) => usual.by(format!(
            "systemctl unmask {UNIT} && systemctl enable {UNIT}"
        )),
        Some(Off::NotInstalled) => usual
            .in_words("Install gpusetup's package again, which has the unit.")
            .by_any(None),
        Some(Off::NotWanted) | None => usual,
    }
}

fn off(look: &HostFacts) -> Option<Off> {
    if !look.has_our_spec() || !gpu_host::init::has_systemd(look.host.root()) {
        return None;
    }
    let masked = Path::new("/etc/systemd/system").join(UNIT);
    let is_masked = look
        .host
        .root()
        .read_link(&masked)
        .is_ok_and(|to| to == Path::new("/dev/null"));
    if is_masked {
        return Some(Off::Masked);
    }
    let dirs = [
        "/etc/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
    ];
    let is_there = dirs.iter().any(|d| look.exists(Path::new(d).join(UNIT)));
    if !is_there {
        return Some(Off::NotInstalled);
    }
    let wants = |dir: &&str| {
        look.host
            .root()
            .symlink_metadata(Path::new(dir).join("multi-user.target.wants").join(UNIT))
            .is_ok()
    };
    (!dirs.iter().any(wants)).then_some(Off::NotWanted)
}
