//! Tables of the options (libnvidia-container 1.17 to 1.19,
//! `src/cli/{main,info,list,configure}.c`). `--config`, `--json`, `--pidfd` and `--oci-state` are
//! ours.
#![allow(
    clippy::unit_arg,
    clippy::unnecessary_wraps,
    clippy::redundant_closure_for_method_calls,
    clippy::struct_excessive_bools,
    reason = "tables with one switch per line"
)]

use std::path::PathBuf;

use gpu_inject::Excerpt;
use gpu_inject::request::Imex;

use super::argp::Opt;
use super::argp::Takes::{Nothing, Optional, Value};

/// Values of the options before the command.
#[derive(Debug, Default)]
pub(super) struct Global {
    pub(super) debug: Option<PathBuf>,
    pub(super) load_kmods: bool,
    pub(super) root: Option<PathBuf>,
    pub(super) ld_cache: Option<PathBuf>,
    pub(super) config: Option<PathBuf>,
}

pub(super) const GLOBAL: [Opt<Global>; 8] = [
    Opt::new(
        'd',
        "debug",
        Value("FILE"),
        "Log debug information",
        |g, v| Ok(g.debug = Some(v.into())),
    ),
    Opt::new('k', "load-kmods", Nothing, "Load kernel modules", |g, _| {
        Ok(g.load_kmods = true)
    }),
    // Accepted without effect: nothing is run in the container, so no root is changed.
    Opt::new(
        'n',
        "no-pivot",
        Nothing,
        "Accepted; no ldconfig is run that would need another root",
        |_, _| Ok(()),
    ),
    // Accepted without effect: libnvidia-container starts a driver process as that user; we start none.
    Opt::new(
        'u',
        "user",
        Optional("UID[:GID]"),
        "Accepted; no driver process is started that could run as another user",
        |_, _| Ok(()),
    ),
    Opt::new(
        'r',
        "root",
        Value("PATH"),
        "Path to the driver root directory",
        |g, v| absolute("root", v).map(|p| g.root = Some(p)),
    ),
    Opt::new(
        'l',
        "ldcache",
        Value("FILE"),
        "Path to the system's DSO cache",
        |g, v| absolute("ldcache", v).map(|p| g.ld_cache = Some(p)),
    ),
    // Accepted without effect: we never make IMEX channels.
    Opt::long(
        "no-create-imex-channels",
        Nothing,
        "Accepted; IMEX channel device nodes are never created here",
        |_, _| Ok(()),
    ),
    Opt::long(
        "config",
        Value("FILE"),
        "Instead of /etc/nvidia-container-runtime/config.toml",
        |g, v| absolute("config", v).map(|p| g.config = Some(p)),
    ),
];

/// Values of the options of `info`.
#[derive(Debug, Default)]
pub(super) struct InfoOptions {
    pub(super) csv: bool,
    pub(super) json: bool,
}

pub(super) const INFO: [Opt<InfoOptions>; 2] = [
    Opt::long("csv", Nothing, "Output in CSV format", |i, _| {
        Ok(i.csv = true)
    }),
    Opt::long(
        "json",
        Nothing,
        "Output everything known of the host as JSON",
        |i, _| Ok(i.json = true),
    ),
];

/// The parts of the driver to leave out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LeftOut {
    pub(super) persistenced: bool,
    pub(super) fabricmanager: bool,
    pub(super) gsp_firmware: bool,
}

/// Values of the options for devices, which `list` and `configure` share.
#[derive(Debug, Default)]
pub(super) struct Devices {
    /// All values of `--device`, joined by commas; `None` if the option was not given.
    pub(super) ids: Option<String>,
    pub(super) mig_config: String,
    pub(super) mig_monitor: String,
    pub(super) imex: Imex,
    pub(super) left_out: LeftOut,
}

/// Values of the options of `list`.
#[derive(Debug, Default)]
pub(super) struct ListOptions {
    pub(super) devices: Devices,
    pub(super) libraries: bool,
    pub(super) binaries: bool,
    pub(super) ipcs: bool,
    pub(super) firmwares: bool,
    pub(super) compat32: bool,
}

pub(super) const LIST: [Opt<ListOptions>; 12] = [
    Opt::new(
        'd',
        "device",
        Value("ID"),
        "Device UUID(s) or index(es) to list",
        |l, v| l.devices.device(v),
    ),
    Opt::new(
        'l',
        "libraries",
        Nothing,
        "List driver libraries",
        |l, _| Ok(l.libraries = true),
    ),
    Opt::new('b', "binaries", Nothing, "List driver binaries", |l, _| {
        Ok(l.binaries = true)
    }),
    Opt::new('i', "ipcs", Nothing, "List driver ipcs", |l, _| {
        Ok(l.ipcs = true)
    }),
    Opt::new(
        'f',
        "firmwares",
        Nothing,
        "List driver firmwares",
        |l, _| Ok(l.firmwares = true),
    ),
    Opt::long(
        "compat32",
        Nothing,
        "Enable 32bits compatibility",
        |l, _| Ok(l.compat32 = true),
    ),
    Opt::long(
        "mig-config",
        Value("ID"),
        "MIG devices to list config capabilities files for",
        |l, v| l.devices.mig_config(v),
    ),
    Opt::long(
        "mig-monitor",
        Value("ID"),
        "MIG devices to list monitor capabilities files for",
        |l, v| l.devices.mig_monitor(v),
    ),
    Opt::long(
        "imex-channel",
        Value("CHANNEL"),
        "IMEX channel ID(s) to list",
        |l, v| l.devices.imex(v),
    ),
    Opt::long(
        "no-persistenced",
        Nothing,
        "Don't include the NVIDIA persistenced socket",
        |l, _| Ok(l.devices.left_out.persistenced = true),
    ),
    Opt::long(
        "no-fabricmanager",
        Nothing,
        "Don't include the NVIDIA fabricmanager socket",
        |l, _| Ok(l.devices.left_out.fabricmanager = true),
    ),
    Opt::long(
        "no-gsp-firmware",
        Nothing,
        "Don't include GSP firmware",
        |l, _| Ok(l.devices.left_out.gsp_firmware = true),
    ),
];

impl Devices {
    pub(super) fn asks_for_imex(&self) -> bool {
        self.imex != Imex::None
    }

    /// Adds a value of `--device`. An empty one counts as given and selects nothing.
    pub(super) fn device(&mut self, value: &str) -> Result<(), String> {
        join(self.ids.get_or_insert_default(), value);
        Ok(())
    }

    pub(super) fn mig_config(&mut self, value: &str) -> Result<(), String> {
        join(&mut self.mig_config, value);
        Ok(())
    }

    pub(super) fn mig_monitor(&mut self, value: &str) -> Result<(), String> {
        join(&mut self.mig_monitor, value);
        Ok(())
    }

    pub(super) fn imex(&mut self, value: &str) -> Result<(), String> {
        for id in value.split(',').filter(|id| !id.is_empty()) {
            if id == "all" {
                self.imex = Imex::All;
                continue;
            }
            let number = id
                .parse()
                .map_err(|_| format!("unsupported IMEX channel value: {}", Excerpt::of(id)))?;
            match &mut self.imex {
                Imex::All => {}
                Imex::Listed(ids) => ids.push(number),
                none @ Imex::None => *none = Imex::Listed(vec![number]),
            }
        }
        Ok(())
    }
}

fn join(list: &mut String, value: &str) {
    if !list.is_empty() {
        list.push(',');
    }
    list.push_str(value);
}

fn absolute(what: &str, value: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(value);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(format!("invalid {what} path: {}", Excerpt::of(value)))
    }
}
