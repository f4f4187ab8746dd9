//! Builds the command lines that run the built-in image as pods, through CRI. They start a separate program,
//! `cri-client`, so that gpusetup does not contain gRPC.

use std::path::Path;

use crate::engines::allowed_way::{AllowedWay, CAPABILITY, SOURCE, TARGET, VARIABLE};
use crate::engines::engine::{Case, Gets, Probe, argv};
use crate::engines::probe_image;
use crate::host::Host;

/// The program that speaks CRI.
pub const CLIENT: &str = "/usr/lib/gpu-container/cri-client";
/// An annotation by which a container requests a device (CDI SPEC.md).
const ANNOTATION: &str = "cdi.k8s.io/gpusetup=nvidia.com/gpu=all";

/// The ways to request GPUs that are tested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodWays {
    /// The runtime handler `nvidia`.
    pub handler: bool,
    /// The CRI field for CDI devices.
    pub field: bool,
    /// The annotation for CDI devices.
    pub annotation: bool,
}

/// Where an engine's pods get the image from.
#[derive(Clone, Copy, Debug)]
pub enum ImageSource<'a> {
    /// It has been loaded into the engine.
    Loaded,
    /// The client serves this archive to the engine.
    Archive(&'a Path),
}

/// The pods of an engine.
#[derive(Clone, Copy, Debug)]
pub struct Pods<'a> {
    /// The engine's CRI socket.
    pub socket: &'a str,
    /// Where the image comes from.
    pub image: ImageSource<'a>,
    /// The image of its sandboxes, if the client cannot get it from the engine.
    pub sandbox_image: Option<&'a str>,
    /// The pod's cgroup; empty for the engine's own choice.
    pub cgroup_parent: &'a str,
    /// The ways to test.
    pub ways: PodWays,
}

impl Pods<'_> {
    /// The command line that removes an image with all its names.
    pub fn remove_image(&self, name: &str) -> Vec<String> {
        argv(&[&[CLIENT, "--socket", self.socket, "--remove-image", name]])
    }

    /// The command lines, without those that load and remove the image.
    pub fn probe(&self, host: &Host) -> Probe {
        let client: &[&str] = &[CLIENT, "--socket", self.socket];
        let archive;
        let mut common: Vec<&str> = vec!["--no-pull", "--stay", "--remove-on-next"];
        match self.image {
            ImageSource::Loaded => common.extend(["--image", probe_image::NAME]),
            ImageSource::Archive(path) => {
                archive = path.display().to_string();
                common.extend(["--archive", &archive]);
            }
        }
        if let Some(name) = self.sandbox_image {
            common.extend(["--sandbox-image", name]);
        }
        if !self.cgroup_parent.is_empty() {
            common.extend(["--cgroup-parent", self.cgroup_parent]);
        }
        let command: &[&str] = &["--", probe_image::PROGRAM, probe_image::STAY];
        let case = |how: &str, flags: &[&str], gets| Case {
            how: format!("pod {how}"),
            argv: argv(&[client, &common, flags, command]),
            gets,
        };
        let mut cases = vec![case(Case::PLAIN, &[], Gets::Nothing)];
        if self.ways.handler {
            let how = "of runtime class nvidia";
            let handler: &[&str] = &["--runtime-handler", "nvidia"];
            let variable: &[&str] = &["--env", VARIABLE];
            let mount = format!("{SOURCE}:{TARGET}");
            let allowed = AllowedWay::of(host);
            let flags = match allowed {
                AllowedWay::Variable => [handler, variable].concat(),
                AllowedWay::Mount => [handler, &["--mount", &mount]].concat(),
                AllowedWay::Privileged => {
                    [handler, &["--capability", CAPABILITY], variable].concat()
                }
            };
            cases.push(case(how, &flags, Gets::Gpus));
            if allowed.denies_variable() {
                let alone = format!("{how} {}", Case::VARIABLE_ALONE);
                let flags = [handler, variable].concat();
                cases.push(case(&alone, &flags, Gets::NothingByPolicy));
            }
        }
        if self.ways.field {
            let flags = ["--cdi-device", "nvidia.com/gpu=all"];
            cases.push(case("with a CDI device", &flags, Gets::Gpus));
        }
        if self.ways.annotation {
            cases.push(case(
                "with a CDI annotation",
                &["--annotation", ANNOTATION],
                Gets::Gpus,
            ));
        }
        let is_there = host.root().exists(CLIENT);
        Probe {
            cases,
            leftovers: vec![argv(&[client, &["--remove-leftovers"]])],
            obstacle: (!is_there).then(|| format!("{CLIENT} is not there")),
            ..Probe::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(ways: PodWays) -> Probe {
        pods_with(ways, "")
    }

    fn pods_with(ways: PodWays, policy: &str) -> Probe {
        let tree = tempfile::tempdir().unwrap();
        let file = tree.path().join("etc/nvidia-container-runtime/config.toml");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, policy).unwrap();
        let host = Host::open(tree.path(), Path::new("/")).unwrap();
        let pods = Pods {
            socket: "/s",
            image: ImageSource::Archive(Path::new("/a.tar")),
            sandbox_image: None,
            cgroup_parent: "",
            ways,
        };
        pods.probe(&host)
    }

    #[test]
    fn each_way_is_a_pod_and_one_asks_for_nothing() {
        let all = PodWays {
            handler: true,
            field: true,
            annotation: true,
        };
        let probe = pods(all);
        let gets: Vec<Gets> = probe.cases.iter().map(|c| c.gets).collect();
        assert_eq!(gets, [Gets::Nothing, Gets::Gpus, Gets::Gpus, Gets::Gpus]);
        assert!(probe.cases[0].how.ends_with(Case::PLAIN));
        assert_eq!(pods(PodWays::default()).cases.len(), 1);
        for case in &probe.cases {
            let line = case.argv.join(" ");
            assert!(
                line.contains("--no-pull") && line.contains("--archive /a.tar"),
                "{line}"
            );
            assert!(line.ends_with("-- /gpu-container-probe stay"), "{line}");
        }
    }

    #[test]
    fn a_strict_policy_is_followed_and_proven() {
        let handler = PodWays {
            handler: true,
            ..PodWays::default()
        };
        let strict = "accept-nvidia-visible-devices-envvar-when-unprivileged = false\n";
        let mounts = "accept-nvidia-visible-devices-as-volume-mounts = true\n";
        for (policy, by) in [
            (strict.to_owned(), "--capability CAP_SYS_ADMIN"),
            (
                format!("{strict}{mounts}"),
                "--mount /dev/null:/var/run/nvidia-container-devices/all",
            ),
        ] {
            let [_, asks, alone] = &pods_with(handler, &policy).cases[..] else {
                panic!("{policy}")
            };
            assert!(asks.gets == Gets::Gpus && asks.argv.join(" ").contains(by));
            assert_eq!(alone.gets, Gets::NothingByPolicy);
            assert!(!alone.argv.join(" ").contains(by), "{:?}", alone.argv);
        }
    }

    #[test]
    fn without_the_client_nothing_is_verified() {
        let why = pods(PodWays::default()).obstacle.unwrap();
        assert!(why.contains("cri-client is not there"), "{why}");
    }
}
