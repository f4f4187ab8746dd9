//! The ways in: how each engine is asked for GPUs, and by what it has them from us.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bundle::{self, fresh};
use crate::command::find;
use crate::image::NAME;
use crate::judge::Asks;
use crate::report::Gpu;

/// Makes the command that starts a container with this program in it.
type Start = Box<dyn Fn(&[&str]) -> Result<Command, String>>;

pub(crate) struct Way {
    pub(crate) name: String,
    pub(crate) asks: Asks,
    /// Why this engine has no such way.
    pub(crate) lacks: Option<String>,
    pub(crate) is_timed: bool,
    start: Start,
}

impl Way {
    pub(crate) fn command(&self, program: &[&str]) -> Result<Command, String> {
        (self.start)(program)
    }
}

/// An engine, or a low-level runtime: a plain container and the ways in.
pub(crate) struct Engine {
    pub(crate) group: &'static str,
    pub(crate) plain: Way,
    pub(crate) ways: Vec<Way>,
}

/// What all of them need.
pub(crate) struct Place<'a> {
    pub(crate) cgroup: &'a str,
    /// The image's files.
    pub(crate) image: &'a Path,
    pub(crate) gpus: &'a [Gpu],
}

/// `0`, or of a GPU with slices `0:0`.
pub(crate) fn first(gpus: &[Gpu]) -> &'static str {
    if gpus.first().is_some_and(|g| g.slices > 0) {
        "0:0"
    } else {
        "0"
    }
}

/// Options before the image's name make the difference between an engine's ways.
fn way(base: &[&str], options: &[&str], then: fn() -> Vec<String>, name: &str, asks: Asks) -> Way {
    let all: Vec<String> = base
        .iter()
        .chain(options)
        .map(|s| (*s).to_owned())
        .collect();
    Way {
        name: name.to_owned(),
        asks,
        lacks: None,
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

fn lacking(way: Way, lacks: bool, why: &str) -> Way {
    Way {
        lacks: lacks.then(|| why.to_owned()),
        ..way
    }
}

/// All GPUs, and that one, by the names of our CDI spec.
fn by_cdi(of: impl Fn(&[&str], &str, Asks) -> Way, one: &str) -> [Way; 2] {
    let device = format!("nvidia.com/gpu={one}");
    [
        timed(of(
            &["--device", "nvidia.com/gpu=all"],
            "CDI, all",
            Asks::All,
        )),
        of(&["--device", &device], "CDI, one GPU", Asks::First),
    ]
}

fn image() -> Vec<String> {
    vec![NAME.to_owned()]
}

fn image_and_id() -> Vec<String> {
    vec![NAME.to_owned(), fresh("gpu-run")]
}

/// `Docker version 20.10.24+dfsg1, build …` is (20, 10).
pub(crate) fn version(said: &str) -> (u32, u32) {
    let words = said
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

pub(crate) fn docker(place: &Place, server: (u32, u32)) -> Engine {
    let base = [
        "docker",
        "run",
        "--rm",
        "--network",
        "none",
        "--cgroup-parent",
        place.cgroup,
    ];
    let of = |options: &[&str], name: &str, asks| way(&base, options, image, name, asks);
    let one = first(place.gpus);
    let no_cdi = server < (25, 0);
    let why = "Docker has CDI from 25.0 on";
    let (device, variable) = (
        format!("\"device={one}\""),
        format!("NVIDIA_VISIBLE_DEVICES={one}"),
    );
    let [cdi_all, cdi_one] = by_cdi(of, one);
    Engine {
        group: "docker",
        plain: timed(of(&[], "a plain container", Asks::Nothing)),
        ways: vec![
            timed(of(&["--gpus", "all"], "--gpus all", Asks::All)),
            of(&["--gpus", &device], "--gpus device=, one GPU", Asks::First),
            timed(of(
                &["--runtime", "nvidia", "-e", "NVIDIA_VISIBLE_DEVICES=all"],
                "--runtime nvidia, all",
                Asks::All,
            )),
            of(
                &["--runtime", "nvidia", "-e", &variable],
                "--runtime nvidia, one GPU",
                Asks::First,
            ),
            of(
                &["--runtime", "nvidia"],
                "--runtime nvidia, nothing asked",
                Asks::Nothing,
            ),
            lacking(cdi_all, no_cdi, why),
            lacking(cdi_one, no_cdi, why),
        ],
    }
}

pub(crate) fn containerd(place: &Place, version: (u32, u32)) -> Engine {
    let cgroup = format!("{}/ctr", place.cgroup);
    let base = ["ctr", "run", "--rm", "--cgroup", &cgroup];
    let of = |options: &[&str], name: &str, asks| way(&base, options, image_and_id, name, asks);
    let one = first(place.gpus);
    let variable = format!("NVIDIA_VISIBLE_DEVICES={one}");
    let [cdi_all, cdi_one] = by_cdi(of, one);
    let ours = ["--runc-binary", "/usr/bin/gpu-container-runtime", "--env"];
    let by_shim =
        |variable: &str, name: &str, asks| of(&[&ours[..], &[variable]].concat(), name, asks);
    let no_cdi = version < (2, 0);
    let why = "ctr has CDI from 2.0 on";
    // ctr counts GPUs by itself, and knows no slices.
    let sliced = one != "0";
    Engine {
        group: "containerd (ctr)",
        plain: timed(of(&[], "a plain container", Asks::Nothing)),
        ways: vec![
            timed(by_shim(
                "NVIDIA_VISIBLE_DEVICES=all",
                "our runtime, all",
                Asks::All,
            )),
            by_shim(&variable, "our runtime, one GPU", Asks::First),
            by_shim("GPUS=none", "our runtime, nothing asked", Asks::Nothing),
            lacking(
                of(&["--gpus", "0"], "ctr --gpus 0", Asks::First),
                sliced,
                "ctr --gpus knows no slices",
            ),
            lacking(cdi_all, no_cdi, why),
            lacking(cdi_one, no_cdi, why),
        ],
    }
}

pub(crate) fn podman(place: &Place) -> Engine {
    let base = [
        "podman",
        "--cgroup-manager=cgroupfs",
        "--events-backend=none",
        "run",
        "--rm",
        "--network",
        "none",
        "--cgroup-parent",
        place.cgroup,
    ];
    let of = |options: &[&str], name: &str, asks| way(&base, options, image, name, asks);
    let one = first(place.gpus);
    let variable = format!("NVIDIA_VISIBLE_DEVICES={one}");
    let [cdi_all, cdi_one] = by_cdi(of, one);
    let mut ours = base.to_vec();
    ours.splice(1..1, ["--runtime", "/usr/bin/gpu-container-runtime"]);
    let by_shim = |options: &[&str], name: &str, asks| way(&ours, options, image, name, asks);
    Engine {
        group: "podman",
        plain: timed(of(&[], "a plain container", Asks::Nothing)),
        ways: vec![
            cdi_all,
            cdi_one,
            by_shim(&["-e", &variable], "our runtime, one GPU", Asks::First),
            by_shim(&[], "our runtime, nothing asked", Asks::Nothing),
        ],
    }
}

/// The shim on a low-level runtime, beside that runtime alone.
pub(crate) fn shim(place: &Place, low_level: &'static str) -> Result<Engine, String> {
    let policy = bundle::policy(low_level)?;
    let at = PathBuf::from(format!("/tmp/bundle-{low_level}"));
    let program = find(low_level).ok_or_else(|| format!("{low_level} is not installed"))?;
    let of = |variable: Option<String>, by_shim: bool, name: &str, asks| -> Way {
        let (image, at, cgroup) = (place.image.to_owned(), at.clone(), place.cgroup.to_owned());
        let (policy, program) = (policy.clone(), program.clone());
        Way {
            name: name.to_owned(),
            asks,
            lacks: None,
            is_timed: false,
            start: Box::new(move |arguments| {
                let env: Vec<&str> = variable.as_deref().into_iter().collect();
                let bundle = bundle::make(&image, &at, &cgroup, &env, arguments)?;
                let mut command = Command::new(if by_shim {
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
    let asking = |what: &str| Some(format!("NVIDIA_VISIBLE_DEVICES={what}"));
    Ok(Engine {
        group: if low_level == "crun" {
            "shim on crun"
        } else {
            "shim on runc"
        },
        plain: timed(of(None, false, "a plain container", Asks::Nothing)),
        ways: vec![
            timed(of(asking("all"), true, "our runtime, all", Asks::All)),
            of(
                asking(first(place.gpus)),
                true,
                "our runtime, one GPU",
                Asks::First,
            ),
            timed(of(None, true, "our runtime, nothing asked", Asks::Nothing)),
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
