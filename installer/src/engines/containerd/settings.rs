//! Computes the CRI settings to write: CDI, and our runtime, which equals the usual one except for
//! its program.

use std::path::{Path, PathBuf};

use toml_edit::Value;

use super::files::Files;
use super::schema::{Cri, TABLES};
use super::view::{Found, View};
use crate::edit::meaning::same_value;
use crate::edit::toml;
use crate::error::Error;
use crate::error::config_fault::ConfigFault;
use crate::host::Host;
use crate::model::setup_options::{Existing, Mode, SetupOptions};

/// The shim for runc and every runtime with its command line. It is the only type that both 1.x and
/// 2.x know (containerd RELEASES.md: the others were removed in 2.0).
const RUNTIME_TYPE: &str = "io.containerd.runc.v2";

/// Keys of a runtime that belong to its program, and so cannot be copied to another.
const OF_ITS_PROGRAM: [&str; 4] = [
    "runtime_type",
    "runtime_path",
    "runtime_engine",
    "runtime_root",
];

/// A value at a key path.
#[derive(Debug)]
pub struct Setting {
    /// The file that must contain it; `None` if any file that counts will do.
    pub file: Option<PathBuf>,
    /// The whole key path.
    pub keys: Vec<String>,
    /// The value.
    pub value: Value,
}

/// The existing runtime of the wanted name.
enum Runtime<'a> {
    Missing,
    Ours,
    Theirs {
        file: &'a Path,
        cri: Cri,
        binary: Option<&'a str>,
    },
}

/// The wanted settings that are missing.
pub fn missing(
    host: &Host,
    view: &View,
    cri: Cri,
    wanted: &SetupOptions,
    daemon: (u32, u32),
) -> Result<Vec<Setting>, Error> {
    let mut settings = Vec::new();
    if wanted.mode != Mode::Cdi {
        let name = wanted.runtime_name.as_str();
        let runtime = find(host, view, wanted);
        match (&runtime, wanted.existing) {
            (Runtime::Theirs { .. }, Existing::Leave) => {}
            (Runtime::Theirs { file, binary, .. }, Existing::Refuse) => {
                return Err(theirs(file, name, *binary));
            }
            // Set everything that ours has, in the file where it is. Its other keys stay.
            (Runtime::Theirs { file, cri, .. }, Existing::Adopt) => {
                settings.extend(ours(view, cri, wanted, daemon, &runtime));
                for setting in &mut settings {
                    setting.file = Some((*file).to_owned());
                }
            }
            (Runtime::Missing | Runtime::Ours, _) => {
                ensure_program(host, view, wanted, daemon)?;
                settings.extend(ours(view, cri, wanted, daemon, &runtime));
            }
        }
        let left = matches!(runtime, Runtime::Theirs { .. }) && wanted.existing == Existing::Leave;
        if wanted.default_runtime
            && !left
            && let Some(table) = default_table(view, daemon)
        {
            return Err(Error::config(
                &table.file.path,
                ConfigFault::DefaultRuntimeTable,
            ));
        }
        if wanted.default_runtime && !left {
            settings.push(at(cri, &["containerd", "default_runtime_name"], name));
        }
    }
    // CRI has CDI from 1.7 on. It is off by default in 1.7 and on from 2.0 on (containerd
    // docs/cri/config.md).
    let is_off = view
        .get(&["enable_cdi"])
        .is_some_and(|f| f.item.as_bool() == Some(false));
    let must_turn_on = ((1, 7)..(2, 0)).contains(&daemon) || (daemon >= (2, 0) && is_off);
    if wanted.mode != Mode::Runtime && must_turn_on {
        settings.push(at(cri, &["enable_cdi"], true));
    }
    settings.retain(|s| {
        let within: Vec<&str> = s.keys[cri.len()..].iter().map(String::as_str).collect();
        let value = view.get(&within).and_then(|f| f.item.as_value());
        value.is_none_or(|v| !same_value(v, &s.value))
    });
    Ok(settings)
}

/// The first setting that has no effect with these files, and the file that overrides it.
pub fn shadowed<'a>(
    settings: &'a [Setting],
    view: &View,
    cri_len: usize,
    files: &Files,
) -> Option<(&'a Setting, PathBuf)> {
    settings.iter().find_map(|setting| {
        let within: Vec<&str> = setting.keys[cri_len..].iter().map(String::as_str).collect();
        let effective = view.get(&within);
        let counts = effective
            .as_ref()
            .and_then(|f| f.item.as_value())
            .is_some_and(|v| same_value(v, &setting.value));
        if counts {
            return None;
        }
        let file = effective.map(|f| f.file).or(view.last_file());
        Some((setting, file.map_or(files.root.clone(), |f| f.path.clone())))
    })
}

/// Warnings about runtimes whose program does not exist: their containers cannot start.
pub fn dangling(host: &Host, view: &View) -> Vec<String> {
    let program = |name: &&str| {
        let binary = view.text(&["containerd", "runtimes", name, "options", "BinaryName"])?;
        let is_gone = binary.starts_with('/') && !host.root().exists(binary);
        is_gone.then(|| format!("runtime {name:?} starts {binary}, which is not there"))
    };
    view.runtimes().iter().filter_map(program).collect()
}

/// The error about a conflicting runtime: whose it is, and what the user can do.
pub fn theirs(file: &Path, name: &str, binary: Option<&str>) -> Error {
    let is_operators = binary.is_some_and(|b| b.starts_with("/usr/local/nvidia/toolkit"));
    let whose = match binary {
        None => "that is not ours (it names no program of its own)".to_owned(),
        Some(binary) if is_operators => format!(
            "that is the GPU operator's ({binary}), which writes it anew at each start of its pod"
        ),
        Some(binary) if binary.contains("nvidia-container-runtime") => {
            format!("that is the NVIDIA Container Toolkit's ({binary})")
        }
        Some(binary) => format!("that is not ours ({binary})"),
    };
    let fault = ConfigFault::OtherRuntime {
        name: name.to_owned(),
        whose,
        is_operators,
        cdi_suffices: true,
    };
    Error::config(file, fault)
}

fn find<'a>(host: &Host, view: &View<'a>, wanted: &SetupOptions) -> Runtime<'a> {
    let name = wanted.runtime_name.as_str();
    let Some(runtime) = view.get(&["containerd", "runtimes", name]) else {
        return Runtime::Missing;
    };
    let binary = view.get(&["containerd", "runtimes", name, "options", "BinaryName"]);
    let text = binary.as_ref().and_then(|b| b.item.as_str());
    if text.is_some_and(|b| wanted.is_our_shim(host, b)) {
        return Runtime::Ours;
    }
    let place = binary.unwrap_or(runtime);
    Runtime::Theirs {
        file: &place.file.path,
        cri: place.cri,
        binary: text.filter(|b| !b.is_empty()),
    }
}

fn ours(
    view: &View,
    cri: Cri,
    wanted: &SetupOptions,
    daemon: (u32, u32),
    found: &Runtime,
) -> Vec<Setting> {
    let name = wanted.runtime_name.as_str();
    let mut settings = Vec::new();
    // Before 2.0, the file's table of runtimes replaces the built-in one, including runc, and CRI
    // does not load without its default runtime (seen on 1.6, 1.7 and 2.1).
    if daemon < (2, 0) && view.get(&["containerd", "runtimes"]).is_none() {
        settings.push(at(
            cri,
            &["containerd", "runtimes", "runc", "runtime_type"],
            RUNTIME_TYPE,
        ));
    }
    // Without runtime_type, containerd does not start (toolkit #1956).
    settings.push(at(
        cri,
        &["containerd", "runtimes", name, "runtime_type"],
        RUNTIME_TYPE,
    ));
    let keys = |more: &[&str]| -> Vec<String> {
        let table = ["containerd", "runtimes", name];
        let all = cri.iter().chain(&table).chain(more);
        all.map(|key| (*key).to_owned()).collect()
    };
    // Apart from its GPUs, a container must be the same with our runtime as with the one that is in use. So ours copies
    // everything in that one's table, above all SystemdCgroup. A runtime that ours takes the place of keeps its own.
    if !has_taken_over(view, wanted, found) {
        let (table, is_of_type) = in_use(view, wanted, daemon);
        let table: Vec<&str> = table.iter().map(String::as_str).collect();
        for (key, value) in view.values(&table).into_iter().filter(|_| is_of_type) {
            if !OF_ITS_PROGRAM.contains(&key) && key != "options" {
                settings.push(setting(keys(&[key]), plain(value)));
            }
        }
        let options = [&table[..], &["options"]].concat();
        for (key, value) in view.values(&options) {
            // An older runtime type has other options, but each type has the cgroup driver among them.
            if key != "BinaryName" && (is_of_type || key == "SystemdCgroup") {
                settings.push(setting(keys(&["options", key]), plain(value)));
            }
        }
    }
    // A runtime that starts our program under another of its names counts as ours.
    if !matches!(found, Runtime::Ours) {
        let keys = ["containerd", "runtimes", name, "options", "BinaryName"];
        settings.push(at(cri, &keys, wanted.runtime_path.display().to_string()));
    }
    settings
}

/// Fails if containers run by a runtime whose own program is not there: then no container runs by ours either, which starts
/// the same one. runc is in the shim's list wherever it is, and so is what NVIDIA's runtime or ours starts.
fn ensure_program(
    host: &Host,
    view: &View,
    wanted: &SetupOptions,
    daemon: (u32, u32),
) -> Result<(), Error> {
    let (table, _) = in_use(view, wanted, daemon);
    let table: Vec<&str> = table.iter().map(String::as_str).collect();
    let Some(found) = view.get(&[&table[..], &["options", "BinaryName"]].concat()) else {
        return Ok(());
    };
    let binary = found.item.as_str().unwrap_or_default();
    let name = Path::new(binary).file_name().unwrap_or_default();
    let is_by_list = name == "runc"
        || name
            .to_string_lossy()
            .starts_with("nvidia-container-runtime")
        || wanted.is_our_shim(host, binary);
    let is_there = || {
        if binary.starts_with('/') {
            host.root().exists(binary)
        } else {
            host.has_program(binary)
        }
    };
    if binary.is_empty() || is_by_list || is_there() {
        return Ok(());
    }
    let fault = ConfigFault::NoLowLevel {
        runtime: table.last().copied().unwrap_or_default().to_owned(),
        looked_for: binary.to_owned(),
    };
    Err(Error::config(&found.file.path, fault))
}

/// The table by which containerd 1.x named its default runtime before `default_runtime_name` was introduced. It takes
/// precedence over that key as long as it has a type (containerd 1.6 pkg/cri/config, `ValidatePluginConfig`; removed
/// in 2.0).
pub fn default_table<'a>(view: &View<'a>, daemon: (u32, u32)) -> Option<Found<'a>> {
    let table = view.get(&["containerd", "default_runtime"])?;
    let kind = view.text(&["containerd", "default_runtime", "runtime_type"]);
    kind.filter(|kind| !kind.is_empty() && daemon < (2, 0))?;
    Some(table)
}

/// Whether ours is, or will be, in the table of a runtime that it takes the place of.
fn has_taken_over(view: &View, wanted: &SetupOptions, found: &Runtime) -> bool {
    let name = &wanted.runtime_name;
    let file = match found {
        Runtime::Missing => return false,
        Runtime::Theirs { .. } => return true,
        Runtime::Ours => view.get(&["containerd", "runtimes", name]),
    };
    let was_theirs = file.and_then(|found| {
        let document = before(wanted, &found)?;
        let keys = [found.cri, &["containerd", "runtimes", name]].concat();
        toml::get(&document, &keys).map(drop)
    });
    was_theirs.is_some()
}

/// The table of the runtime that containers use, and whether it is of the type of ours: the default one, whichever program
/// it starts, so that ours is like NVIDIA's where that is the default; otherwise runc.
fn in_use(view: &View, wanted: &SetupOptions, daemon: (u32, u32)) -> (Vec<String>, bool) {
    let kind = |table: &[&str]| view.text(&[table, &["runtime_type"]].concat());
    if default_table(view, daemon).is_some() {
        let table = ["containerd", "default_runtime"];
        let is_of_type = kind(&table) == Some(RUNTIME_TYPE);
        return (table.map(str::to_owned).to_vec(), is_of_type);
    }
    let ours = wanted.runtime_name.as_str();
    let key = ["containerd", "default_runtime_name"];
    let before = || {
        let document = before(wanted, &view.get(&key)?)?;
        TABLES.iter().find_map(|cri| {
            let item = toml::get(&document, &[cri, &key[..]].concat())?;
            item.as_str().map(str::to_owned)
        })
    };
    let given = wanted.given_default.clone();
    let now = given.or_else(|| view.text(&key).map(str::to_owned));
    let default = if now.as_deref() == Some(ours) {
        before()
    } else {
        now
    };
    let is_usual = |name: &String| {
        let table = ["containerd", "runtimes", name];
        *name != ours
            && view.get(&table).is_some()
            && kind(&table).is_none_or(|kind| kind == RUNTIME_TYPE)
    };
    let name = default
        .filter(is_usual)
        .unwrap_or_else(|| "runc".to_owned());
    (vec!["containerd".into(), "runtimes".into(), name], true)
}

/// The file of a setting as it was before gpusetup changed it.
fn before(wanted: &SetupOptions, found: &Found) -> Option<toml_edit::DocumentMut> {
    toml::parse(wanted.texts_before.get(&found.file.path)?).ok()
}

fn at(cri: Cri, keys: &[&str], value: impl Into<Value>) -> Setting {
    let keys = cri.iter().chain(keys).map(|k| (*k).to_owned()).collect();
    setting(keys, value.into())
}

fn setting(keys: Vec<String>, value: Value) -> Setting {
    Setting {
        file: None,
        keys,
        value,
    }
}

/// A value without the comments and spaces around it.
fn plain(value: &Value) -> Value {
    value.clone().decorated(" ", "")
}
