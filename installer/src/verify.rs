//! The proof: a container in each engine, from the built-in image, that says what it sees.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::error::Error;
use crate::host::Host;
use crate::image::{self, NAME};
use crate::report::Progress;

/// The program that the image is made of.
const PROGRAM: &str = "/usr/lib/gpu-container/gpu-container";
const NAMESPACE: &str = "gpusetup";
const LIMIT: Duration = Duration::from_secs(120);

/// What one container showed.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    /// The engine.
    pub engine: String,
    /// How the container asked: `--gpus all`.
    pub how: String,
    /// GPUs whose nodes it could open.
    pub gpus: usize,
    /// GPUs it should see.
    pub expected: usize,
    /// Whether that is so and nothing else is wrong.
    pub ok: bool,
    /// What it saw, in words.
    pub detail: String,
}

/// One container to run: what it is called in the report, its flags, whether it gets GPUs.
struct Case {
    how: &'static str,
    flags: &'static [&'static str],
    gets: bool,
}

const DOCKER: [Case; 3] = [
    Case {
        how: "--gpus all",
        flags: &["--gpus", "all"],
        gets: true,
    },
    Case {
        how: "--runtime nvidia",
        flags: &["--runtime", "nvidia", "-e", "NVIDIA_VISIBLE_DEVICES=all"],
        gets: true,
    },
    Case {
        how: "asking for nothing",
        flags: &[],
        gets: false,
    },
];
/// Where that Docker has CDI.
const DOCKER_CDI: Case = Case {
    how: "--device nvidia.com/gpu=all",
    flags: &["--device", "nvidia.com/gpu=all"],
    gets: true,
};
const PODMAN: [Case; 2] = [
    Case {
        how: "--device nvidia.com/gpu=all",
        flags: &["--device", "nvidia.com/gpu=all"],
        gets: true,
    },
    Case {
        how: "asking for nothing",
        flags: &[],
        gets: false,
    },
];
const CTR: [Case; 2] = [
    Case {
        how: "gpu-container-runtime",
        flags: &[
            "--runc-binary",
            "/usr/bin/gpu-container-runtime",
            "--env",
            "NVIDIA_VISIBLE_DEVICES=all",
        ],
        gets: true,
    },
    Case {
        how: "asking for nothing",
        flags: &["--runc-binary", "/usr/bin/gpu-container-runtime"],
        gets: false,
    },
];

/// Runs containers in each of these engines.
pub fn run(
    host: &Host,
    engines: &[String],
    gpus: usize,
    progress: &Progress,
) -> Result<Vec<Verified>, Error> {
    let program = host
        .root()
        .read(PROGRAM)
        .map_err(Error::file(Path::new(PROGRAM), "read"))?;
    let archive =
        image::build(&program).map_err(Error::file(Path::new(PROGRAM), "make an image of"))?;
    let mut file =
        tempfile::NamedTempFile::new().map_err(Error::file(Path::new("/tmp"), "write"))?;
    file.write_all(&archive)
        .map_err(Error::file(file.path(), "write"))?;
    let mut all = Vec::new();
    for engine in engines {
        let found = one(host, engine, file.path(), gpus)?;
        let good = found.iter().filter(|v| v.ok).count();
        if good == found.len() {
            progress.done(&format!("{engine}: a container sees {gpus} of {gpus} GPUs, one that asks for nothing sees none"));
        } else {
            for bad in found.iter().filter(|v| !v.ok) {
                progress.failed(&format!("{engine} ({}): {}", bad.how, bad.detail));
            }
        }
        all.extend(found);
    }
    Ok(all)
}

fn one(host: &Host, engine: &str, archive: &Path, gpus: usize) -> Result<Vec<Verified>, Error> {
    let path = archive.display().to_string();
    let step = |argv: &[&str]| -> Result<(), Error> {
        let out = host.run(argv, LIMIT)?;
        if out.ok() {
            return Ok(());
        }
        Err(Error::failed(
            format!("{}: {}", argv.join(" "), out.last_line()),
            format!("does {engine} run?"),
        ))
    };
    let mut found = Vec::new();
    match engine {
        "containerd" => {
            step(&["ctr", "-n", NAMESPACE, "images", "import", &path])?;
            for case in &CTR {
                let id = format!("probe-{}", std::process::id());
                let argv = [
                    &["ctr", "-n", NAMESPACE, "run", "--rm"],
                    case.flags,
                    &[NAME, &id],
                ]
                .concat();
                found.push(judge(host, engine, case, &argv, gpus));
            }
            step(&["ctr", "-n", NAMESPACE, "images", "rm", NAME])?;
            // Empty now, unless somebody else uses that name.
            let _ = host.run(&["ctr", "namespaces", "rm", NAMESPACE], LIMIT);
        }
        "docker" | "podman" => {
            step(&[engine, "load", "-q", "-i", &path])?;
            let cases = if engine == "docker" {
                &DOCKER[..]
            } else {
                &PODMAN[..]
            };
            let cdi = (engine == "docker" && has_cdi(host)).then_some(&DOCKER_CDI);
            for case in cases.iter().chain(cdi) {
                let argv = [
                    &[engine, "run", "--rm", "--network", "none"],
                    case.flags,
                    &[NAME],
                ]
                .concat();
                found.push(judge(host, engine, case, &argv, gpus));
            }
            step(&[engine, "rmi", "-f", NAME])?;
        }
        _ => {}
    }
    Ok(found)
}

/// `docker info` lists spec directories where CDI is on (moby 25.0).
fn has_cdi(host: &Host) -> bool {
    host.run(&["docker", "info", "--format", "{{json .}}"], LIMIT)
        .ok()
        .and_then(|o| serde_json::from_str::<Value>(&o.stdout).ok())
        .and_then(|info| Some(!info.get("CDISpecDirs")?.as_array()?.is_empty()))
        .unwrap_or(false)
}

fn judge(host: &Host, engine: &str, case: &Case, argv: &[&str], gpus: usize) -> Verified {
    let expected = if case.gets { gpus } else { 0 };
    let mut verified = Verified {
        engine: engine.to_owned(),
        how: case.how.to_owned(),
        gpus: 0,
        expected,
        ok: false,
        detail: String::new(),
    };
    let out = match host.run(argv, LIMIT) {
        Ok(out) => out,
        Err(e) => {
            verified.detail = e.to_string();
            return verified;
        }
    };
    let seen = out
        .stdout
        .lines()
        .rev()
        .find_map(|l| serde_json::from_str::<Value>(l).ok());
    let Some(seen) = seen.filter(|_| out.ok()) else {
        verified.detail = out.last_line().to_owned();
        return verified;
    };
    let wrong = wrong(&seen, case.gets);
    verified.gpus = open_gpus(&seen);
    verified.ok = wrong.is_none() && verified.gpus == expected;
    verified.detail = wrong.unwrap_or_else(|| {
        format!(
            "the container sees {} GPUs, {expected} expected",
            verified.gpus
        )
    });
    verified
}

/// GPU nodes that open. ENXIO is an open that the device cgroup let through to a driver
/// that has no such device.
fn open_gpus(seen: &Value) -> usize {
    let nodes = seen.get("nodes").and_then(Value::as_array);
    nodes
        .into_iter()
        .flatten()
        .filter(|n| {
            let path = n.get("path").and_then(Value::as_str).unwrap_or_default();
            let number = path.strip_prefix("/dev/nvidia").unwrap_or_default();
            !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
        })
        .filter(|n| matches!(n.get("open").and_then(Value::as_str), Some("ok" | "ENXIO")))
        .count()
}

fn wrong(seen: &Value, gets: bool) -> Option<String> {
    let leaked = seen.get("leaked").and_then(Value::as_array)?;
    if !leaked.is_empty() {
        return Some(format!(
            "the container can open GPUs it was not given: {leaked:?}"
        ));
    }
    let has_cuda = seen.get("libcuda").is_some_and(Value::is_string);
    match (gets, has_cuda) {
        (true, false) => Some("libcuda.so.1 is not in the container's ld.so.cache".into()),
        (false, true) => Some("a container that asks for nothing gets the driver".into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_gpu_nodes_that_open_count() {
        let seen = json!({"leaked": [], "libcuda": "/l", "nodes": [
            {"path": "/dev/nvidia0", "open": "ENXIO"}, {"path": "/dev/nvidia1", "open": "EPERM"},
            {"path": "/dev/nvidiactl", "open": "ok"}, {"path": "/dev/nvidia2", "open": "ok"},
        ]});
        assert_eq!(open_gpus(&seen), 2);
        assert_eq!(wrong(&seen, true), None);
        assert!(wrong(&seen, false).is_some());
        assert!(
            wrong(&json!({"leaked": [1], "libcuda": "/l"}), true)
                .unwrap()
                .contains("not given")
        );
        assert!(wrong(&json!({"leaked": []}), true).is_some());
    }
}
