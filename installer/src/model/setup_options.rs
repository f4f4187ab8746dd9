//! The options of a setup: what the user wants set up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::host::Host;

/// What the user wants set up.
#[derive(Clone, Debug)]
pub struct SetupOptions {
    /// CDI, the runtime, or both.
    pub mode: Mode,
    /// Make our runtime the engine's default.
    pub default_runtime: bool,
    /// Name of the runtime entry; `nvidia` by default.
    pub runtime_name: String,
    /// The path of the shim; `/usr/bin/gpu-container-runtime` by default.
    pub runtime_path: PathBuf,
    /// The directory with our programs under the vendor's names; `/usr/lib/gpu-container/bin` by
    /// default.
    pub names_dir: PathBuf,
    /// What to do with a runtime of that name that another tool added or that was written by hand.
    pub existing: Existing,
    /// The texts of files before gpusetup changed them first: they tell which runtime ours has taken the place of.
    pub texts_before: BTreeMap<PathBuf, String>,
    /// The default runtime that the engine is told by a flag or its own file, which counts from its next start on whatever
    /// its generated files have now.
    pub given_default: Option<String>,
}

impl Default for SetupOptions {
    fn default() -> Self {
        Self {
            mode: Mode::Both,
            default_runtime: false,
            runtime_name: "nvidia".into(),
            runtime_path: "/usr/bin/gpu-container-runtime".into(),
            names_dir: "/usr/lib/gpu-container/bin".into(),
            existing: Existing::Refuse,
            texts_before: BTreeMap::new(),
            given_default: None,
        }
    }
}

impl SetupOptions {
    /// Whether a program that an engine's configuration names is our shim, under any name:
    /// gpusetup-nvidia-compat installs it under NVIDIA's name.
    pub fn is_our_shim(&self, host: &Host, program: &str) -> bool {
        let named = Path::new(program);
        let on_path = (!named.is_absolute()).then(|| host.program(program));
        let path = on_path.flatten().unwrap_or_else(|| named.to_owned());
        if path == self.runtime_path || path.starts_with(&self.names_dir) {
            return true;
        }
        let real = |p: &Path| host.root().canonicalize(p).ok();
        path.is_absolute() && real(&path).is_some() && real(&path) == real(&self.runtime_path)
    }
}

/// What the user wants of an engine's default runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultRequest {
    /// It stays as earlier runs have made it.
    #[default]
    Keep,
    /// Ours becomes the default.
    Set,
    /// It becomes what it was before gpusetup.
    TakeBack,
}

/// What a plan does with an engine's default runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DefaultRuntime {
    /// Ours is the default, because this run asks for that.
    Set,
    /// Ours is the default, because an earlier run asked for that.
    Kept,
    /// Ours is not the default any more.
    TakenBack,
}

impl DefaultRuntime {
    /// Whether ours is the default.
    pub fn is_ours(self) -> bool {
        self != Self::TakenBack
    }
}

/// How containers get GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The engine applies the CDI spec.
    Cdi,
    /// The engine starts our runtime.
    Runtime,
    /// Both.
    Both,
}

/// What to do with a configuration that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Existing {
    /// Stop and report what was found.
    Refuse,
    /// Replace it with ours; undo restores it.
    Adopt,
    /// Leave it as it is, and set up the rest.
    Leave,
}
