//! The options of the command `configure`, and its argument ROOTFS.
#![allow(
    clippy::unit_arg,
    clippy::unnecessary_wraps,
    clippy::redundant_closure_for_method_calls,
    clippy::struct_excessive_bools,
    reason = "a table with one switch per line"
)]

use std::path::PathBuf;

use gpu_host::{Capabilities, Capability};
use gpu_inject::{Excerpt, host};

use super::argp::Opt;
use super::argp::Takes::{Nothing, Value};
use super::options::Devices;

/// Maximum number of `--require`, the same as in libnvidia-container.
const MAX_REQUIREMENTS: usize = 32;

/// Values of the options of `configure`.
#[derive(Debug, Default)]
pub(super) struct Configure {
    pub(super) devices: Devices,
    pub(super) capabilities: Capabilities,
    pub(super) requirements: Vec<String>,
    pub(super) pid: Option<i32>,
    pub(super) pidfd: Option<i32>,
    pub(super) oci_state: bool,
    pub(super) no_cgroups: bool,
    pub(super) no_devbind: bool,
    /// `--no-cntlibs`, `--cuda-compat-mode=disabled`.
    pub(super) no_image_libraries: bool,
    /// The mode of `--cuda-compat-mode`, unless it is `disabled`.
    pub(super) compat_mode: Option<String>,
}

pub(super) const CONFIGURE: [Opt<Configure>; 24] = [
    Opt::new('p', "pid", Value("PID"), "Container PID", |c, v| {
        positive(v, "process ID").map(|n| c.pid = Some(n))
    }),
    Opt::new(
        'd',
        "device",
        Value("ID"),
        "Device UUID(s) or index(es) to isolate",
        |c, v| c.devices.device(v),
    ),
    Opt::new(
        'r',
        "require",
        Value("EXPR"),
        "Check container requirements",
        |c, v| c.require(v),
    ),
    // Accepted without effect: we write the loader's cache ourselves and run no ldconfig.
    Opt::new(
        'l',
        "ldconfig",
        Value("PATH"),
        "Accepted; the cache is written without running an ldconfig",
        |_, _| Ok(()),
    ),
    Opt::new(
        'c',
        "compute",
        Nothing,
        "Enable compute capability",
        |c, _| c.capability(Capability::Compute),
    ),
    Opt::new(
        'u',
        "utility",
        Nothing,
        "Enable utility capability",
        |c, _| c.capability(Capability::Utility),
    ),
    Opt::new('v', "video", Nothing, "Enable video capability", |c, _| {
        c.capability(Capability::Video)
    }),
    Opt::new(
        'g',
        "graphics",
        Nothing,
        "Enable graphics capability",
        |c, _| c.capability(Capability::Graphics),
    ),
    Opt::new(
        'D',
        "display",
        Nothing,
        "Enable display capability",
        |c, _| c.capability(Capability::Display),
    ),
    Opt::new('n', "ngx", Nothing, "Enable ngx capability", |c, _| {
        c.capability(Capability::Ngx)
    }),
    Opt::long(
        "compat32",
        Nothing,
        "Enable 32bits compatibility",
        |c, _| c.capability(Capability::Compat32),
    ),
    Opt::long(
        "mig-config",
        Value("ID"),
        "Enable configuration of MIG devices",
        |c, v| c.devices.mig_config(v),
    ),
    Opt::long(
        "mig-monitor",
        Value("ID"),
        "Enable monitoring of MIG devices",
        |c, v| c.devices.mig_monitor(v),
    ),
    Opt::long(
        "imex-channel",
        Value("CHANNEL"),
        "IMEX channel ID(s) to inject",
        |c, v| c.devices.imex(v),
    ),
    Opt::long(
        "no-cgroups",
        Nothing,
        "Don't use cgroup enforcement",
        |c, _| Ok(c.no_cgroups = true),
    ),
    Opt::long("no-devbind", Nothing, "Don't bind mount devices", |c, _| {
        Ok(c.no_devbind = true)
    }),
    Opt::long(
        "no-gsp-firmware",
        Nothing,
        "Don't include GSP firmware",
        |c, _| Ok(c.devices.left_out.gsp_firmware = true),
    ),
    Opt::long(
        "no-persistenced",
        Nothing,
        "Don't include the NVIDIA persistenced socket",
        |c, _| Ok(c.devices.left_out.persistenced = true),
    ),
    Opt::long(
        "no-fabricmanager",
        Nothing,
        "Don't include the NVIDIA fabricmanager socket",
        |c, _| Ok(c.devices.left_out.fabricmanager = true),
    ),
    Opt::long(
        "no-cntlibs",
        Nothing,
        "Don't use the image's CUDA compatibility libraries",
        |c, _| Ok(c.no_image_libraries = true),
    ),
    Opt::long(
        "cuda-compat-mode",
        Value("MODE"),
        "disabled, mount or ldconfig; the last two are one here",
        |c, v| c.compat_mode(v),
    ),
    // Accepted without effect: existed only in 1.5.0-rc.1, but old scripts still pass it.
    Opt::long(
        "fabric-device",
        Value("ID"),
        "Accepted, as after 1.5.0-rc.1 nothing reads it",
        |_, _| Ok(()),
    ),
    Opt::long(
        "pidfd",
        Value("FD"),
        "Container process, by an inherited pidfd",
        |c, v| positive(v, "descriptor").map(|n| c.pidfd = Some(n)),
    ),
    Opt::long(
        "oci-state",
        Nothing,
        "Container process and ROOTFS, by an OCI state on standard input",
        |c, _| Ok(c.oci_state = true),
    ),
];

impl Configure {
    fn require(&mut self, value: &str) -> Result<(), String> {
        if self.requirements.len() == MAX_REQUIREMENTS {
            return Err("too many requirements".into());
        }
        self.requirements.push(value.to_owned());
        Ok(())
    }

    /// Adds a capability and those that it implies (libnvidia-container `src/nvc_container.c`): video
    /// decoders load libcuda, and displays need the graphics libraries.
    fn capability(&mut self, capability: Capability) -> Result<(), String> {
        self.capabilities = match capability {
            Capability::Video => self.capabilities.with(Capability::Compute),
            Capability::Display => self.capabilities.with(Capability::Graphics),
            _ => self.capabilities,
        }
        .with(capability);
        Ok(())
    }

    fn compat_mode(&mut self, mode: &str) -> Result<(), String> {
        match mode {
            "disabled" => self.no_image_libraries = true,
            "mount" | "ldconfig" => {
                if self
                    .compat_mode
                    .as_deref()
                    .is_some_and(|other| other != mode)
                {
                    return Err("cuda-compat-mode: mount and ldconfig exclude each other".into());
                }
                self.compat_mode = Some(mode.to_owned());
            }
            _ => {
                return Err(format!(
                    "unsupported cuda-compat-mode: {}",
                    Excerpt::of(mode)
                ));
            }
        }
        Ok(())
    }
}

/// Checks the root file system that a caller names: it must be absolute and not the host's own in any spelling.
pub(super) fn rootfs(word: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(word);
    if host::can_be_rootfs(&path) {
        Ok(path)
    } else {
        Err("invalid rootfs directory".into())
    }
}

fn positive(value: &str, what: &str) -> Result<i32, String> {
    let number: Option<i32> = value.parse().ok().filter(|n| *n > 0);
    number.ok_or_else(|| format!("invalid {what}: {}", Excerpt::of(value)))
}

#[cfg(test)]
mod tests {
    use gpu_inject::request::Imex;

    use super::super::argp::{Order, Stop, parse};
    use super::*;

    fn configure(line: &str) -> Result<(Configure, Vec<String>), Stop> {
        let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let mut read = Configure::default();
        let words = parse(&CONFIGURE, &args, Order::Nowhere, &mut read)?;
        let words = words.into_iter().map(str::to_owned).collect();
        Ok((read, words))
    }

    fn value_error(line: &str) -> String {
        match configure(line) {
            Err(Stop::Value(why)) => why,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn devices_and_capabilities_add_up() {
        let (read, words) = configure("-cu --device=0 -d1,2 --ngx /r").unwrap();
        assert_eq!(read.devices.ids.as_deref(), Some("0,1,2"));
        assert_eq!(read.capabilities.to_string(), "compute,utility,ngx");
        assert_eq!(words, ["/r"]);
        let (read, _) = configure("--video --display").unwrap();
        let all = "compute,graphics,video,display";
        assert_eq!(read.capabilities.to_string(), all);
    }

    #[test]
    fn values_are_checked_while_parsing() {
        assert!(value_error("--pid=0").contains("invalid process ID"));
        assert!(value_error("--pid x").contains("invalid process ID"));
        assert!(value_error("--imex-channel=0,x").contains("unsupported IMEX channel value: x"));
        assert!(value_error("--cuda-compat-mode=odd").contains("unsupported cuda-compat-mode"));
        value_error("--cuda-compat-mode=mount --cuda-compat-mode=ldconfig");
        let (read, _) = configure("--cuda-compat-mode=mount --cuda-compat-mode=disabled").unwrap();
        assert!(read.no_image_libraries);
        let many = "--require=cuda>=1 ".repeat(33);
        assert_eq!(value_error(many.trim()), "too many requirements");
    }

    #[test]
    fn imex_channels_are_numbers_or_all() {
        let (read, _) = configure("--imex-channel=0,3 --imex-channel 5").unwrap();
        assert_eq!(read.devices.imex, Imex::Listed(vec![0, 3, 5]));
        let (read, _) = configure("--imex-channel=1,all,2").unwrap();
        assert_eq!(read.devices.imex, Imex::All);
    }

    #[test]
    fn the_hosts_own_root_is_refused() {
        for bad in [
            "/", "//", "/.", "/..", "/../", "rootfs", "./r", "", "/a/../..",
        ] {
            assert_eq!(
                rootfs(bad),
                Err("invalid rootfs directory".into()),
                "{bad:?}"
            );
        }
        assert_eq!(rootfs("/var/lib/x"), Ok("/var/lib/x".into()));
    }
}
