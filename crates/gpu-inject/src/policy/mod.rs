//! The policy of a host, `/etc/nvidia-container-runtime/config.toml`: which containers may request
//! what, and how requests are carried out.
//!
//! The keys have the same meaning as in nvidia-container-toolkit 1.20 (`api/config/v1`), so that a
//! host which has the file keeps its policy. [`KEYS`] lists them all, with the reason for those
//! that have no effect here. Unknown keys are kept in [`Policy::unknown`]. There are no drop-in
//! files, because the toolkit has none.

mod file;
mod keys;
mod kinds;
mod last_seen;
mod mode;
mod off_switch;
mod salvage;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use gpu_host::{Capabilities, Root};
use toml::Table;

use crate::capability_list;
use crate::error::Error;
use file::PolicyFile;

pub use keys::{KEYS, Key};
pub use kinds::is_of_kind;
pub use last_seen::{LAST_SEEN, LastSeen, command_to_put_back};
pub use mode::{Level, RuntimeMode};
pub use off_switch::{OFF_SWITCH, OffSwitch};

/// The policy's file.
pub const PATH: &str = "/etc/nvidia-container-runtime/config.toml";
/// Maximum bytes of the file. No policy is that long, and every start of a container reads the file.
pub const MAX_FILE: u64 = 1 << 20;
/// The policy's file below `$XDG_CONFIG_HOME`.
const IN_CONFIG_HOME: &str = "nvidia-container-runtime/config.toml";

/// The policy: the values in the file, and defaults for the others.
#[allow(clippy::struct_excessive_bools, reason = "the file's own switches")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The file, for messages.
    pub path: PathBuf,
    /// `accept-nvidia-visible-devices-envvar-when-unprivileged`.
    pub accept_unprivileged: bool,
    /// `accept-nvidia-visible-devices-as-volume-mounts`.
    pub accept_mounts: bool,
    /// `disable-require`.
    pub disable_require: bool,
    /// `swarm-resource`: variables that replace `NVIDIA_VISIBLE_DEVICES` if one of them is set.
    pub swarm_resource: Vec<String>,
    /// `supported-driver-capabilities`.
    pub supported: Capabilities,
    /// `nvidia-container-cli.no-cgroups`: do not change the device cgroup.
    pub no_cgroups: bool,
    /// `nvidia-container-cli.root`: the driver root.
    pub driver_root: PathBuf,
    /// `nvidia-container-cli.debug`: log of the hook and the CLI.
    pub cli_debug: Option<PathBuf>,
    /// `nvidia-container-runtime.debug`: log of the runtime.
    pub debug: Option<PathBuf>,
    /// `nvidia-container-runtime.log-level`: the least urgent level in those logs.
    pub log_level: Level,
    /// `nvidia-container-runtime.runtimes`: low-level runtimes; the first one found is used.
    pub runtimes: Vec<String>,
    /// `nvidia-container-runtime.mode`.
    pub mode: RuntimeMode,
    /// `modes.cdi.spec-dirs`; a later directory takes precedence.
    pub spec_dirs: Vec<PathBuf>,
    /// `modes.cdi.default-kind`: the kind of device names without one.
    pub default_kind: String,
    /// `modes.cdi.annotation-prefixes`.
    pub annotation_prefixes: Vec<String>,
    /// `modes.csv.mount-spec-path`: the directory of a Tegra's CSV files.
    pub csv_dir: PathBuf,
    /// `modes.csv.compat-container-root`: where images for a Tegra have their CUDA
    /// compatibility libraries.
    pub csv_compat_root: Option<PathBuf>,
    /// Whether an image's own CUDA compatibility libraries may take precedence over the driver's.
    /// False if `modes.legacy.cuda-compat-mode` is `disabled`,
    /// `features.disable-cuda-compat-lib-hook` is set, or `nvcdi-disable-hooks` has
    /// `enable-cuda-compat`. The modes `ldconfig`, `mount` and `hook` are all done in the same way
    /// here, without a mount.
    pub cuda_compat: bool,
    /// False if `nvcdi-disable-hooks` has `disable-device-node-modification`.
    pub forbid_device_nodes: bool,
    /// False if `nvcdi-disable-hooks` has `update-application-profile`.
    pub application_profile: bool,
    /// `features.ignore-imex-channel-requests`.
    pub ignore_imex: bool,
    /// False if `features.no-additional-gids-for-device-nodes` is set, or the flag of the same name
    /// in `modes.jit-cdi.nvcdi-feature-flags`.
    pub additional_gids: bool,
    /// `gpu-container.allowed-cdi-kinds`: kinds of CDI devices that containers may request
    /// themselves, in addition to NVIDIA's. `vendor/class` or `vendor/*`.
    pub allowed_kinds: Vec<String>,
    /// `gpu-container.allowed-cdi-kinds-in-annotations`: additional kinds for annotations.
    pub allowed_kinds_in_annotations: Vec<String>,
    /// `gpu-container.mounts`. True for `hook`: our hook mounts the driver's files where it can.
    /// False for `runtime`: the mounts are in config.json, where a checkpoint (CRIU) needs them.
    pub hook_mounts: bool,
    /// `gpu-container.inventory`: a stored inventory to use instead of the host's own.
    pub inventory: Option<PathBuf>,
    /// Unknown keys of the file, for a warning.
    pub unknown: Vec<String>,
    /// Known keys of the file that have no effect here.
    pub without_effect: Vec<Key>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            path: PATH.into(),
            accept_unprivileged: true,
            accept_mounts: false,
            disable_require: false,
            swarm_resource: Vec::new(),
            supported: Capabilities::ALL,
            no_cgroups: false,
            driver_root: "/".into(),
            cli_debug: None,
            debug: None,
            log_level: Level::Info,
            runtimes: vec!["runc".into(), "crun".into()],
            mode: RuntimeMode::Auto,
            spec_dirs: cdi::SPEC_DIRS.map(PathBuf::from).to_vec(),
            default_kind: "nvidia.com/gpu".into(),
            annotation_prefixes: vec![cdi::annotations::PREFIX.into()],
            csv_dir: "/etc/nvidia-container-runtime/host-files-for-container.d".into(),
            csv_compat_root: None,
            cuda_compat: true,
            forbid_device_nodes: true,
            application_profile: true,
            ignore_imex: false,
            additional_gids: true,
            allowed_kinds: Vec::new(),
            allowed_kinds_in_annotations: Vec::new(),
            hook_mounts: true,
            inventory: None,
            unknown: Vec::new(),
            without_effect: Vec::new(),
        }
    }
}

impl Policy {
    /// Reads the file of a host's tree. The defaults if it does not exist.
    pub fn load(root: &Root) -> Result<Self, Error> {
        Self::load_from(root, Path::new(PATH))
    }

    /// Whether it decides as the defaults do.
    pub fn is_default(&self) -> bool {
        let usual = Self::default();
        let compared = Self {
            path: usual.path.clone(),
            unknown: Vec::new(),
            without_effect: Vec::new(),
            ..self.clone()
        };
        compared == usual
    }

    /// The file that the environment names: `NVIDIA_CTK_CONFIG_FILE_PATH`, else the one below
    /// `XDG_CONFIG_HOME`, else [`PATH`]. For a runtime that an engine starts. Must not be used in a
    /// hook, whose environment may come from the container.
    ///
    /// If `XDG_CONFIG_HOME` is set but has no such file, the host's file is read. Here
    /// nvidia-container-toolkit uses the defaults, so that a variable set by a desktop disables the
    /// host's policy.
    pub fn path_in_environment(
        root: &Root,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> PathBuf {
        let set = |name| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        if let Some(path) = set("NVIDIA_CTK_CONFIG_FILE_PATH") {
            return path;
        }
        let users = set("XDG_CONFIG_HOME").map(|home| home.join(IN_CONFIG_HOME));
        users
            .filter(|path| root.exists(path))
            .unwrap_or_else(|| PATH.into())
    }

    /// Reads this file. The defaults if it does not exist.
    pub fn load_from(root: &Root, path: &Path) -> Result<Self, Error> {
        match root.read_text_limited(path, MAX_FILE) {
            Ok(text) => Self::from_toml(&text, path),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(Error::host(path)(e)),
        }
    }

    /// Parses the text of the file; `path` is for messages. Unknown keys are kept in
    /// [`Policy::unknown`]. A known key with a value of the wrong type is an error, because the
    /// policy must not be weaker than its author intended.
    pub fn from_toml(text: &str, path: &Path) -> Result<Self, Error> {
        let table: Table = text.parse().map_err(|e| Error::PolicySyntax {
            path: path.to_owned(),
            source: Box::new(e),
        })?;
        let file = PolicyFile {
            table: &table,
            path,
        };
        let usual = Self::default();
        let cli = |key: &str| format!("nvidia-container-cli.{key}");
        let runtime = |key: &str| format!("nvidia-container-runtime.{key}");
        let features = FeatureSwitches::read(&file)?;
        let (unknown, without_effect) = keys::unknown_and_unused(&table);
        Ok(Self {
            path: path.to_owned(),
            accept_unprivileged: file
                .flag("accept-nvidia-visible-devices-envvar-when-unprivileged")?
                .unwrap_or(usual.accept_unprivileged),
            accept_mounts: file
                .flag("accept-nvidia-visible-devices-as-volume-mounts")?
                .unwrap_or(usual.accept_mounts),
            disable_require: file.flag("disable-require")?.unwrap_or_default(),
            swarm_resource: file.names("swarm-resource")?,
            supported: match file.text("supported-driver-capabilities")? {
                Some(list) => capability_list::parse(&list).map_err(|e| {
                    file.invalid_value("supported-driver-capabilities", &e.to_string())
                })?,
                None => usual.supported,
            },
            no_cgroups: file.flag(&cli("no-cgroups"))?.unwrap_or_default(),
            driver_root: file.path(&cli("root"))?.unwrap_or(usual.driver_root),
            cli_debug: file.log(&cli("debug"))?,
            debug: file.log(&runtime("debug"))?,
            log_level: file
                .word(&runtime("log-level"), Level::from_word, Level::WORDS)?
                .unwrap_or(usual.log_level),
            runtimes: file
                .list(&runtime("runtimes"))?
                .filter(|l| !l.is_empty())
                .unwrap_or(usual.runtimes),
            mode: file
                .word(&runtime("mode"), RuntimeMode::from_word, RuntimeMode::WORDS)?
                .unwrap_or(usual.mode),
            spec_dirs: file
                .list(&runtime("modes.cdi.spec-dirs"))?
                .map_or(usual.spec_dirs, |l| {
                    l.into_iter().map(PathBuf::from).collect()
                }),
            default_kind: file
                .text(&runtime("modes.cdi.default-kind"))?
                .unwrap_or(usual.default_kind),
            annotation_prefixes: file
                .list(&runtime("modes.cdi.annotation-prefixes"))?
                .unwrap_or(usual.annotation_prefixes)
                .into_iter()
                // An empty prefix would make every annotation a request.
                .filter(|p| !p.is_empty())
                .collect(),
            csv_dir: file
                .path(&runtime("modes.csv.mount-spec-path"))?
                .unwrap_or(usual.csv_dir),
            csv_compat_root: file.path(&runtime("modes.csv.compat-container-root"))?,
            cuda_compat: features.cuda_compat,
            forbid_device_nodes: features.forbid_device_nodes,
            application_profile: features.application_profile,
            ignore_imex: features.ignore_imex,
            additional_gids: features.additional_gids,
            allowed_kinds: file.kinds("gpu-container.allowed-cdi-kinds")?,
            allowed_kinds_in_annotations: file
                .kinds("gpu-container.allowed-cdi-kinds-in-annotations")?,
            hook_mounts: file
                .word(
                    "gpu-container.mounts",
                    |w| match w {
                        "hook" => Some(true),
                        "runtime" => Some(false),
                        _ => None,
                    },
                    "hook, runtime",
                )?
                .unwrap_or(usual.hook_mounts),
            inventory: file.path("gpu-container.inventory")?,
            unknown,
            without_effect,
        })
    }
}

/// What the file switches on and off by lists of hooks and features, in the keys of several versions of
/// nvidia-container-toolkit.
#[allow(
    clippy::struct_excessive_bools,
    reason = "switches of the file, each by itself"
)]
struct FeatureSwitches {
    cuda_compat: bool,
    forbid_device_nodes: bool,
    application_profile: bool,
    ignore_imex: bool,
    additional_gids: bool,
}

impl FeatureSwitches {
    fn read(file: &PolicyFile<'_>) -> Result<Self, Error> {
        const JIT_CDI: &str = "nvidia-container-runtime.modes.jit-cdi";
        const NO_GIDS: &str = "no-additional-gids-for-device-nodes";
        let list = |key: &str| Ok::<_, Error>(file.list(key)?.unwrap_or_default());
        let is_set = |key: &str| Ok::<_, Error>(file.flag(key)?.unwrap_or_default());
        let disabled = list(&format!("{JIT_CDI}.nvcdi-disable-hooks"))?;
        let is_on = |hook: &str| !disabled.iter().any(|d| d == hook || d == "all");
        let flags = list(&format!("{JIT_CDI}.nvcdi-feature-flags"))?;
        let mode = file.word(
            "nvidia-container-runtime.modes.legacy.cuda-compat-mode",
            |word| match word {
                "disabled" => Some(false),
                "ldconfig" | "mount" | "hook" => Some(true),
                _ => None,
            },
            "ldconfig, mount, hook, disabled",
        )?;
        let no_cuda_compat = is_set("features.disable-cuda-compat-lib-hook")?;
        let no_gids = is_set(&format!("features.{NO_GIDS}"))?;
        Ok(Self {
            cuda_compat: mode.unwrap_or(true) && !no_cuda_compat && is_on("enable-cuda-compat"),
            forbid_device_nodes: is_on("disable-device-node-modification"),
            application_profile: is_on("update-application-profile"),
            ignore_imex: is_set("features.ignore-imex-channel-requests")?,
            additional_gids: !no_gids && !flags.iter().any(|flag| flag == NO_GIDS),
        })
    }
}

#[cfg(test)]
mod tests;
