//! The command lines that run the built-in image in a Docker.

use std::path::Path;

use super::client::Client;
use crate::engines::allowed_way::{AllowedWay, CAPABILITY, SOURCE, TARGET, VARIABLE};
use crate::engines::engine::{Case, Gets, Probe};
use crate::engines::probe_image;

/// The name of our containers, followed by a number.
const CONTAINER: &str = "gpusetup-probe";

/// The ways to request GPUs that are tested.
#[derive(Clone, Copy, Debug)]
pub struct Ways {
    /// `--gpus`.
    pub gpus: bool,
    /// The runtime.
    pub runtime: bool,
    /// CDI.
    pub cdi: bool,
    /// How the policy lets a container ask.
    pub allowed: AllowedWay,
}

/// The command lines for the image in that archive.
pub fn of(client: &Client, archive: &Path, ways: Ways) -> Probe {
    let archive = archive.display().to_string();
    let run: &[&str] = &["run", "-i", "--rm", "--network", "none", "--name"];
    let mount = format!("{SOURCE}:{TARGET}:ro");
    let runtime: &[&str] = &["--runtime", "nvidia"];
    let variable: &[&str] = &["-e", VARIABLE];
    let privileged: &[&str] = &["--cap-add", CAPABILITY];
    let volume: &[&str] = &["-v", &mount];
    let asking: Vec<&[&str]> = match ways.allowed {
        AllowedWay::Variable => vec![runtime, variable],
        AllowedWay::Mount => vec![runtime, volume],
        AllowedWay::Privileged => vec![runtime, privileged, variable],
    };
    let mut containers: Vec<(String, Vec<&[&str]>, Gets)> = Vec::new();
    if ways.gpus {
        // dockerd hands it on as the variable, or resolves it itself by CDI: only the first is the policy's to deny.
        let mut flags: Vec<&[&str]> = vec![&["--gpus", "all"]];
        flags.extend(ways.allowed.denies_variable().then_some(privileged));
        containers.push((flags.concat().join(" "), flags, Gets::Gpus));
    }
    if ways.runtime {
        let how = runtime.join(" ");
        if ways.allowed.denies_variable() {
            let alone = format!("{how} {}", Case::VARIABLE_ALONE);
            containers.push((alone, vec![runtime, variable], Gets::NothingByPolicy));
        }
        containers.push((how, asking, Gets::Gpus));
    }
    containers.push((Case::PLAIN.into(), Vec::new(), Gets::Nothing));
    if ways.cdi {
        let device: &[&str] = &["--device", "nvidia.com/gpu=all"];
        containers.push((device.join(" "), vec![device], Gets::Gpus));
    }
    let names: Vec<String> = (0..containers.len())
        .map(|n| format!("{CONTAINER}-{n}"))
        .collect();
    let cases = containers
        .into_iter()
        .zip(&names)
        .map(|((how, flags, gets), name)| Case {
            how,
            argv: client.argv(&[
                run,
                &[name],
                &flags.concat(),
                &[probe_image::NAME, probe_image::AGAIN],
            ]),
            gets,
        });
    Probe {
        load: vec![client.argv(&[&["load", "-q", "-i", &archive]])],
        cases: cases.collect(),
        leftovers: vec![[client.argv(&[&["rm", "-f"]]), names.clone()].concat()],
        unload: vec![client.argv(&[&["rmi", "-f", probe_image::NAME]])],
        ..Probe::default()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::host::Host;

    /// How each container asks, with its command line.
    fn cases(allowed: AllowedWay) -> Vec<(String, String, Gets)> {
        let host = Host::open(Path::new("/"), Path::new("/")).unwrap();
        let client = Client::new(
            &host,
            Path::new("/usr/bin/dockerd"),
            crate::engines::docker::client::SOCKET.to_owned(),
        );
        let ways = Ways {
            gpus: true,
            runtime: true,
            cdi: true,
            allowed,
        };
        let probe = of(&client, Path::new("/a"), ways);
        let cases = probe.cases.into_iter();
        cases.map(|c| (c.how, c.argv.join(" "), c.gets)).collect()
    }

    #[test]
    fn without_a_strict_policy_the_variable_is_enough() {
        let all = cases(AllowedWay::Variable);
        assert_eq!(all.len(), 4);
        assert!(all.iter().all(|c| !c.1.contains("cap-add")), "{all:?}");
        assert!(all.iter().all(|c| c.2 != Gets::NothingByPolicy));
    }

    /// Every container that should get GPUs asks in a way that counts, and one shows that the variable does not.
    #[test]
    fn a_strict_policy_is_followed_and_proven() {
        for (allowed, by) in [
            (
                AllowedWay::Mount,
                "-v /dev/null:/var/run/nvidia-container-devices/all:ro",
            ),
            (
                AllowedWay::Privileged,
                "--cap-add CAP_SYS_ADMIN -e NVIDIA_VISIBLE_DEVICES=all",
            ),
        ] {
            let all = cases(allowed);
            let of = |how: &str| all.iter().find(|c| c.0 == how).unwrap();
            assert!(of("--runtime nvidia").1.contains(by), "{all:?}");
            let gpus = of("--gpus all --cap-add CAP_SYS_ADMIN");
            assert!(gpus.2 == Gets::Gpus, "{all:?}");
            let alone = of("--runtime nvidia by NVIDIA_VISIBLE_DEVICES alone");
            assert_eq!(alone.2, Gets::NothingByPolicy);
            assert!(!alone.1.contains("cap-add") && !alone.1.contains("-v "));
        }
    }
}
