//! The ways in: how each engine can be asked for GPUs, and which of our parts then provides them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bundle::{self, fresh};
use crate::command::find;
use crate::image::NAME;
use crate::judge::GpuRequest;
use crate::report::Gpu;

/// Makes the command that starts a container with the given program in it.
type Start = Box<dyn Fn(&[&str]) -> Result<Command, String>>;

pub(crate) struct Way {
    pub(crate) name: String,
    pub(crate) request: GpuRequest,
    /// Why this engine does not have this way, if so.
    pub(crate) unavailable: Option<String>,
    pub(crate) is_timed: bool,
    start: Start,
}

impl Way {
    pub(crate) fn command(&self, program: &[&str]) -> Result<Command, String> {
        (self.start)(program)
    }
}

/// An engine or a low-level runtime, with a plain container and its ways in.
pub(crate) struct Engine {
    pub(crate) group: &'static str,
    pub(crate) plain: Way,
    pub(crate) ways: Vec<Way>,
}

/// What the ways of every engine need.
pub(crate) struct WayContext<'a> {
    pub(crate) cgroup: &'a str,
    /// The image's files.
    pub(crate) image: &'a Path,
    pub(crate) gpus: &'a [Gpu],
}

/// `0`, or `0:0` for the first slice of a partitioned GPU.
pub(crate) fn first(gpus: &[Gpu]) -> &'static str {
    if gpus.first().is_some_and(|g| g.slices > 0) {
        "0:0"
    } else {
        "0"
    }
}

/// A way: an engine's base command and options, then what `then` gives (the image), then the program.
fn way(
    base: &[&str],
    options: &[&str],
    then: fn() -> Vec<String>,
    name: &str,
    request: GpuRequest,
) -> Way {
    let all: Vec<String> = base
        .iter()
        .chain(options)
        .map(|s| (*s).to_owned())
        .collect();
    Way {
        name: name.to_owned(),
        request,
        unavailable: None,
        is_timed: false,
        start: Box::new(move |program| {
            let mut command = Command::new(&all[0]);
            command.args(&all[1..]).args(then()).args(program);
            Ok(command)
        }),
    }
}

fn timed(way: Way) -> Way {
    Way {
        is_timed: true,
        ..way
    }
}

fn unavailable_if(way: Way, unavailable: bool, why: &str) -> Way {
    Way {
        unavailable: unavailable.then(|| why.to_owned()),
        ..way
    }
}

/// Two ways by the names in our CDI spec: all GPUs, and one.
fn cdi_ways(new_way: impl Fn(&[&str], &str, GpuRequest) -> Way, one: &str) -> [Way; 2] {
    let device = format!("nvidia.com/gpu={one}");
    [
        timed(new_way(
            &["--device", "nvidia.com/gpu=all"],
            "CDI, all",
            GpuRequest::All,
        )),
        new_way(&["--device", &device], "CDI, one GPU", GpuRequest::First),
    ]
}

fn image() -> Vec<String> {
    vec![NAME.to_owned()]
}

fn image_and_id() -> Vec<String> {
    vec![NAME.to_owned(), fresh("gpu-run")]
}

/// Reads a version from a program's output: `Docker version 20.10.24+dfsg1, build …` is (20, 10).
pub(crate) fn version(output: &str) -> (u32, u32) {
    let words = output
        .split_whitespace()
        .map(|w| w.strip_prefix('v').unwrap_or(w));
    let number = words
        .into_iter()
        .find(|w| w.starts_with(|c: char| c.is_ascii_digit()));
    let mut parts = number
        .unwrap_or_default()
        .split('.')
        .map(|p| p.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

pub(crate) fn docker(context: &WayContext, server: (u32, u32)) -> Engine {
    let base = [
        "docker",
        "run",
        "--rm",
        "--network",
        "none",
        "--cgroup-parent",
        context.cgroup,
    ];
    let new_way = |options: &[&str], name: &str, request| way(&base, options, image, name, request);
    let one = first(context.gpus);
    let lacks_cdi = server < (25, 0);
    let why = "Docker has CDI from 25.0 on";
    let (device, variable) = (
        format!("\"device={one}\""),
        format!("NVIDIA_VISIBLE_DEVICES={one}"),
    );
    let [cdi_all, cdi_one] = cdi_ways(new_way, one);
    Engine {
        group: "docker",
        plain: timed(new_way(&[], "a plain container", GpuRequest::None)),
        ways: vec![
            timed(new_way(&["--gpus", "all"], "--gpus all", GpuRequest::All)),
            new_way(
                &["--gpus", &device],
                "--gpus device=, one GPU",
                GpuRequest::First,
            ),
            timed(new_way(
                &["--runtime", "nvidia", "-e", "NVIDIA_VISIBLE_DEVICES=all"],
                "--runtime nvidia, all",
                GpuRequest::All,
            )),
            new_way(
                &["--runtime", "nvidia", "-e", &variable],
                "--runtime nvidia, one GPU",
                GpuRequest::First,
            ),
            new_way(
                &["--runtime", "nvidia"],
                "--runtime nvidia, nothing asked",
                GpuRequest::None,
            ),
            unavailable_if(cdi_all, lacks_cdi, why),
            unavailable_if(cdi_one, lacks_cdi, why),
        ],
    }
}

pub(crate) fn containerd(context: &WayContext, version: (u32, u32)) -> Engine {
    let cgroup = format!("{}/ctr", context.cgroup);
    let base = ["ctr", "run", "--rm", "--cgroup", &cgroup];
    let new_way =
        |options: &[&str], name: &str, request| way(&base, options, image_and_id, name, request);
    let one = first(context.gpus);
    let variable = format!("NVIDIA_VISIBLE_DEVICES={one}");
    let [cdi_all, cdi_one] = cdi_ways(new_way, one);
    let runtime_options = ["--runc-binary", "/usr/bin/gpu-container-runtime", "--env"];
    let runtime_way = |variable: &str, name: &str, request| {
        new_way(&[&runtime_options[..], &[variable]].concat(), name, request)
    };
    let lacks_cdi = version < (2, 0);
    let why = "ctr has CDI from 2.0 on";
    // ctr numbers the GPUs by itself and does not know slices.
    let sliced = one != "0";
    Engine {
        group: "containerd (ctr)",
        plain: timed(new_way(&[], "a plain container", GpuRequest::None)),
        ways: vec![
            timed(runtime_way(
                "NVIDIA_VISIBLE_DEVICES=all",
                "our runtime, all",
                GpuRequest::All,
            )),
            runtime_way(&variable, "our runtime, one GPU", GpuRequest::First),
            runtime_way("GPUS=none", "our runtime, nothing asked", GpuRequest::None),
            unavailable_if(
                new_way(&["--gpus", "0"], "ctr --gpus 0", GpuRequest::First),
                sliced,
                "ctr --gpus knows no slices",
            ),
            unavailable_if(cdi_all, lacks_cdi, why),
            unavailable_if(cdi_one, lacks_cdi, why),
        ],
    }
}

pub(crate) fn podman(context: &WayContext) -> Engine {
    let base = [
        "podman",
        "--cgroup-manager=cgroupfs",
        "--events-backend=none",
        "run",
        "--rm",
        "--network",
        "none",
        "--cgroup-parent",
        context.cgroup,
    ];
    let new_way = |options: &[&str], name: &str, request| way(&base, options, image, name, request);
    let one = first(context.gpus);
    let variable = format!("NVIDIA_VISIBLE_DEVICES={one}");
    let [cdi_all, cdi_one] = cdi_ways(new_way, one);
    let mut runtime_options = base.to_vec();
    runtime_options.splice(1..1, ["--runtime", "/usr/bin/gpu-container-runtime"]);
    let runtime_way = |options: &[&str], name: &str, request| {
        way(&runtime_options, options, image, name, request)
    };
    Engine {
        group: "podman",
        plain: timed(new_way(&[], "a plain container", GpuRequest::None)),
        ways: vec![
            cdi_all,
            cdi_one,
            runtime_way(
                &["-e", &variable],
                "our runtime, one GPU",
                GpuRequest::First,
            ),
            runtime_way(&[], "our runtime, nothing asked", GpuRequest::None),
        ],
    }
}

/// Our runtime on a low-level runtime, compared with that runtime alone.
pub(crate) fn shim(context: &WayContext, low_level: &'static str) -> Result<Engine, String> {
    let policy = bundle::policy(low_level)?;
    let at = PathBuf::from(format!("/tmp/bundle-{low_level}"));
    let program = find(low_level).ok_or_else(|| format!("{low_level} is not installed"))?;
    let new_way = |variable: Option<String>, runtime_way: bool, name: &str, request| -> Way {
        let (image, at, cgroup) = (
            context.image.to_owned(),
            at.clone(),
            context.cgroup.to_owned(),
        );
        let (policy, program) = (policy.clone(), program.clone());
        Way {
            name: name.to_owned(),
            request,
            unavailable: None,
            is_timed: false,
            start: Box::new(move |arguments| {
                let env: Vec<&str> = variable.as_deref().into_iter().collect();
                let bundle = bundle::make(&image, &at, &cgroup, &env, arguments)?;
                let mut command = Command::new(if runtime_way {
                    Path::new("gpu-container-runtime")
                } else {
                    &program
                });
                command.env("NVIDIA_CTK_CONFIG_FILE_PATH", &policy);
                command
                    .arg("--root")
                    .arg(at.join("state"))
                    .arg("run")
                    .arg("--bundle")
                    .arg(bundle);
                command.arg(fresh("gpu-run"));
                Ok(command)
            }),
        }
    };
    let visible_devices = |devices: &str| Some(format!("NVIDIA_VISIBLE_DEVICES={devices}"));
    Ok(Engine {
        group: if low_level == "crun" {
            "shim on crun"
        } else {
            "shim on runc"
        },
        plain: timed(new_way(None, false, "a plain container", GpuRequest::None)),
        ways: vec![
            timed(new_way(
                visible_devices("all"),
                true,
                "our runtime, all",
                GpuRequest::All,
            )),
            new_way(
                visible_devices(first(context.gpus)),
                true,
                "our runtime, one GPU",
                GpuRequest::First,
            ),
            timed(new_way(
                None,
                true,
                "our runtime, nothing asked",
                GpuRequest::None,
            )),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_engines_say_them() {
        assert_eq!(
            version("Docker version 20.10.24+dfsg1, build 5d6db84"),
            (20, 10)
        );
        assert_eq!(
            version("containerd github.com/containerd/containerd/v2 v2.1.9 abc"),
            (2, 1)
        );
        assert_eq!(
            version("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3"),
            (1, 6)
        );
        assert_eq!(version("28.5.2"), (28, 5));
        assert_eq!(version("nothing"), (0, 0));
    }
}
