//! The command lines that run the built-in image in a Docker.

use std::path::Path;

use super::client::Client;
use crate::engines::engine::{Case, Probe};
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
}

/// The command lines for the image in that archive.
pub fn of(client: &Client, archive: &Path, ways: Ways) -> Probe {
    let archive = archive.display().to_string();
    let run: &[&str] = &["run", "-i", "--rm", "--network", "none", "--name"];
    let mut flags: Vec<(&str, &[&str])> = Vec::new();
    if ways.gpus {
        flags.push(("--gpus all", &["--gpus", "all"]));
    }
    if ways.runtime {
        flags.push((
            "--runtime nvidia",
            &["--runtime", "nvidia", "-e", "NVIDIA_VISIBLE_DEVICES=all"],
        ));
    }
    flags.push((Case::PLAIN, &[]));
    if ways.cdi {
        flags.push((
            "--device nvidia.com/gpu=all",
            &["--device", "nvidia.com/gpu=all"],
        ));
    }
    let names: Vec<String> = (0..flags.len())
        .map(|n| format!("{CONTAINER}-{n}"))
        .collect();
    let cases = flags
        .into_iter()
        .zip(&names)
        .map(|((how, flags), name)| Case {
            how: how.into(),
            argv: client.argv(&[
                run,
                &[name],
                flags,
                &[probe_image::NAME, probe_image::AGAIN],
            ]),
            gets: how != Case::PLAIN,
        });
    Probe {
        load: vec![client.argv(&[&["load", "-q", "-i", &archive]])],
        cases: cases.collect(),
        leftovers: vec![[client.argv(&[&["rm", "-f"]]), names.clone()].concat()],
        unload: vec![client.argv(&[&["rmi", "-f", probe_image::NAME]])],
        ..Probe::default()
    }
}
