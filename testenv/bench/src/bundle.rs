//! The bundle of a way: its config.json at the beginning of a container's life, the runtime that it is started with,
//! and a fresh overlay over the image each time, as engines have it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, umount2};
use serde_json::{Value, json};

use crate::case::{Image, Way};
use crate::host::{here, make_dir, mount_at, policy_text, write};
use crate::program::{context, run};
use crate::protocol::HostOptions;

/// A runtime that does nothing, so that only the shim's part is run.
const NOTHING: &str = "/run/bench/true";
/// A runtime that is there and cannot be run, since it is empty, so that the shim is the last program. A shim skips one
/// that is not executable.
const NO_PROGRAM: &str = "/run/bench/no-program";
/// Other vendors' runtimes read the host's own policy from another file.
const POLICY_OF_OURS: &str = "NVIDIA_CTK_CONFIG_FILE_PATH";

/// A way that is ready to run: its config.json and its runtime.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub image: Image,
    pub config: Value,
    pub runtime: PathBuf,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, PathBuf)>,
}

/// The directory of the bundle. There is only one, since containers run one after the other.
pub(crate) fn path() -> PathBuf {
    here("bundle")
}

/// The mount point of the image with an overlay over it. Unmounted, with all that was written, when this is dropped.
pub(crate) struct Rootfs(PathBuf);

impl Rootfs {
    pub(crate) fn mount(image: Image) -> Result<Self, String> {
        let layer = here("layer");
        for dir in ["upper", "work"] {
            make_dir(&layer.join(dir))?;
        }
        let at = path().join("rootfs");
        make_dir(&at)?;
        let options = format!(
            "lowerdir=/run/bench/images/{image},upperdir={0}/upper,workdir={0}/work",
            layer.display()
        );
        mount_at(
            Some("overlay"),
            &at,
            Some("overlay"),
            MsFlags::empty(),
            &options,
        )?;
        Ok(Self(at))
    }
}

impl Drop for Rootfs {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir_all(here("layer"));
    }
}

/// The parts that never change in a host.
pub(crate) struct Maker<'a> {
    options: &'a HostOptions,
    has_cgroups: bool,
    base: Value,
}

impl<'a> Maker<'a> {
    pub(crate) fn new(options: &'a HostOptions, has_cgroups: bool) -> Result<Self, String> {
        std::os::unix::fs::symlink("/bin/busybox", NOTHING).map_err(context(NOTHING))?;
        write(Path::new(NO_PROGRAM), "")?;
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(NO_PROGRAM, executable).map_err(context(NO_PROGRAM))?;
        for (name, low_level) in [("nothing", NOTHING), ("no-program", NO_PROGRAM)] {
            write(
                &here(&format!(
                    "policy/{name}/nvidia-container-runtime/config.toml"
                )),
                &policy_text(low_level, has_cgroups, None),
            )?;
            write(
                &policy_by_cdi("ours", name),
                &by_cdi(low_level, has_cgroups, "/var/run/cdi"),
            )?;
        }
        for other in &options.others {
            let specs = here(&format!("cdi/{}", other.name));
            if let Some(generator) = &other.generator {
                let output = format!("--output={}/nvidia.yaml", specs.display());
                make_dir(&specs)?;
                let mut command = Command::new(generator);
                command.args(["cdi", "generate", &output]);
                let hook = other.hook.iter();
                command.args(hook.map(|h| format!("--nvidia-cdi-hook-path={h}")));
                run(&mut command)?;
            }
            let specs = specs.display().to_string();
            let low_level = options.below.to_string();
            for (name, low_level) in [
                ("life", low_level.as_str()),
                ("nothing", NOTHING),
                ("no-program", NO_PROGRAM),
            ] {
                write(
                    &policy_by_cdi(&other.name, name),
                    &by_cdi(low_level, has_cgroups, &specs),
                )?;
            }
        }
        Ok(Self {
            options,
            has_cgroups,
            base: base(options.config.as_deref())?,
        })
    }

    /// The container of a way, with this program in it.
    pub(crate) fn ready(&self, image: Image, way: &Way, args: &[&str]) -> Result<Ready, String> {
        let asks = self.base(args, true);
        let none = self.base(args, false);
        let floor = |config: Value| without_hooks(config);
        let config = match way {
            Way::Plain | Way::PlainAgain | Way::NoGpu | Way::OtherNoGpu(_) => none,
            Way::Floor => floor(Self::edited(image, &asks, &policy_by_plan())?),
            Way::Shim | Way::Other(_) => asks,
            Way::CdiFloor => floor(Self::edited(
                image,
                &asks,
                &policy_by_cdi("ours", "nothing"),
            )?),
            Way::EmptyHook => with_empty_hook(floor(Self::edited(
                image,
                &asks,
                &policy_by_cdi("ours", "nothing"),
            )?)),
            Way::Cdi => Self::edited(image, &asks, &policy_by_cdi("ours", "nothing"))?,
            Way::OtherCdi(name) => Self::edited(image, &asks, &policy_by_cdi(name, "nothing"))?,
            Way::Live => with_prestart(
                asks,
                "/usr/lib/gpu-container/bin/nvidia-container-runtime-hook",
            ),
            Way::OtherLive(name) => {
                let hook = self.other(name)?.prestart.as_deref();
                with_prestart(asks, hook.unwrap_or_default())
            }
        };
        let mut environment = Vec::new();
        let runtime = match way {
            Way::NoGpu | Way::Shim => "/usr/bin/gpu-container-runtime".to_owned(),
            Way::OtherNoGpu(name) | Way::Other(name) => {
                let home = here(&format!("policy/{name}/life"));
                environment.push(("XDG_CONFIG_HOME".to_owned(), home));
                self.other(name)?.runtime.clone().unwrap_or_default()
            }
            _ => self.options.below.to_string(),
        };
        let mut arguments = Vec::new();
        if !self.has_cgroups {
            arguments.push("--cgroup-manager=disabled".to_owned());
        }
        arguments.extend(["--root".to_owned(), here("state").display().to_string()]);
        Ok(Ready {
            image,
            config,
            runtime: runtime.into(),
            arguments,
            environment,
        })
    }

    /// The same, with a shim that ends in a runtime that does nothing or cannot be run.
    pub(crate) fn ends_in(ready: &Ready, way: &Way, end: &str) -> Ready {
        let (name, variable) = match way {
            Way::OtherNoGpu(name) | Way::Other(name) => (name.as_str(), "XDG_CONFIG_HOME"),
            _ => ("", POLICY_OF_OURS),
        };
        let policy = if name.is_empty() {
            here(&format!(
                "policy/{end}/nvidia-container-runtime/config.toml"
            ))
        } else {
            here(&format!("policy/{name}/{end}"))
        };
        Ready {
            environment: vec![(variable.to_owned(), policy)],
            ..ready.clone()
        }
    }

    fn other(&self, name: &str) -> Result<&crate::case::Other, String> {
        let runtime = self.options.others.iter().find(|o| o.name == name);
        runtime.ok_or_else(|| format!("no program was given for {name}"))
    }

    fn base(&self, args: &[&str], asks: bool) -> Value {
        let mut config = self.base.clone();
        config["process"]["args"] = json!(args);
        if asks && let Some(env) = config["process"]["env"].as_array_mut() {
            env.push(json!("NVIDIA_VISIBLE_DEVICES=all"));
            env.push(json!("NVIDIA_DRIVER_CAPABILITIES=all"));
        }
        config
    }

    /// What our shim makes of a config.json under this policy.
    fn edited(image: Image, config: &Value, policy: &Path) -> Result<Value, String> {
        let rootfs = Rootfs::mount(image)?;
        let file = put(config)?;
        run(Command::new("/usr/bin/gpu-container-runtime")
            .args(["create", "--bundle"])
            .arg(path())
            .arg("edited")
            .env(POLICY_OF_OURS, policy))?;
        drop(rootfs);
        let text = fs::read(&file).map_err(context("config.json"))?;
        serde_json::from_slice(&text).map_err(context("config.json"))
    }
}

/// Writes it as the bundle's config.json.
pub(crate) fn put(config: &Value) -> Result<PathBuf, String> {
    let file = path().join("config.json");
    write(&file, &config.to_string())?;
    Ok(file)
}

fn policy_by_plan() -> PathBuf {
    here("policy/nothing/nvidia-container-runtime/config.toml")
}

fn policy_by_cdi(name: &str, end: &str) -> PathBuf {
    here(&format!(
        "policy/{name}/{end}/nvidia-container-runtime/config.toml"
    ))
}

fn by_cdi(low_level: &str, has_cgroups: bool, specs: &str) -> String {
    policy_text(low_level, has_cgroups, Some(Path::new(specs)))
}

/// The config.json that an engine would give, or that `runc spec` makes.
fn base(config: Option<&Path>) -> Result<Value, String> {
    let bundle = path();
    make_dir(&bundle)?;
    let file = bundle.join("config.json");
    match config {
        Some(from) => drop(fs::copy(from, &file).map_err(context("the config.json given"))?),
        None => run(Command::new("runc").args(["spec", "--bundle"]).arg(&bundle))?,
    }
    let text = fs::read(&file).map_err(context("config.json"))?;
    let mut config: Value = serde_json::from_slice(&text).map_err(context("config.json"))?;
    config["process"]["terminal"] = json!(false);
    // Where the machine withholds that right, lowered limits cannot be raised again.
    config["process"]["rlimits"] = json!([]);
    config["root"] = json!({"path": "rootfs", "readonly": false});
    Ok(config)
}

fn without_hooks(mut config: Value) -> Value {
    if let Some(config) = config.as_object_mut() {
        config.shift_remove("hooks");
    }
    config
}

/// A hook that is static and as small as a program can be. It reads its standard input, since crun 1.8 treats a hook
/// that ends before as failed.
fn with_empty_hook(mut config: Value) -> Value {
    config["hooks"] = json!({"createContainer": [{
        "path": "/usr/bin/busybox",
        "args": ["busybox", "tail", "-n", "0"],
    }]});
    config
}

/// A hook as dockerd adds it (moby `daemon/nvidia_linux.go`).
fn with_prestart(mut config: Value, hook: &str) -> Value {
    config["hooks"] = json!({"prestart": [{
        "path": hook,
        "args": ["nvidia-container-runtime-hook", "prestart"],
        "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
    }]});
    config
}
