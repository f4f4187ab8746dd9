//! Judges whether a container saw what it asked for. The baseline is what the same probe saw on the host itself.

use gpu_run::probe_output::{Cuda, Graphics, ProbeOutput, Sum};

use crate::command::CommandOutcome;
use crate::report::{Gpu, Verdict};

/// Which GPUs a container asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GpuRequest {
    None,
    /// The first GPU alone; its first slice if it is partitioned.
    First,
    All,
}

/// The baseline: the host's GPUs, and what the probe saw on the host itself.
#[derive(Debug, Default)]
pub(crate) struct Baseline {
    pub(crate) gpus: Vec<Gpu>,
    pub(crate) host: ProbeOutput,
}

fn failed(why: impl Into<String>) -> Verdict {
    Verdict::Failed(why.into())
}

impl Baseline {
    fn requested(&self, request: GpuRequest) -> &[Gpu] {
        match request {
            GpuRequest::None => &[],
            GpuRequest::First => &self.gpus[..self.gpus.len().min(1)],
            GpuRequest::All => &self.gpus,
        }
    }

    /// How the host's own driver works, before any container is tried.
    pub(crate) fn host_verdict(&self) -> Verdict {
        match &self.host.cuda {
            None => failed("the probe ended before it said anything of CUDA"),
            Some(Cuda::NoLibrary { why } | Cuda::NoDevice { why } | Cuda::Failed { why }) => {
                failed(why)
            }
            Some(Cuda::Devices { devices, .. }) if devices.is_empty() => {
                failed("CUDA lists no device")
            }
            Some(Cuda::Devices { devices, .. }) => {
                let mut sums = devices.iter().map(|d| &d.sum);
                if let Some(Sum::Failed { why }) =
                    sums.clone().find(|s| matches!(s, Sum::Failed { .. }))
                {
                    failed(why)
                } else if sums.any(|s| *s == Sum::DoesNotCompute) {
                    Verdict::NotVerified(DOES_NOT_COMPUTE.into())
                } else {
                    Verdict::Ok
                }
            }
        }
    }

    /// Judges a container that should have exactly these GPUs and a driver that computes on them.
    pub(crate) fn compute(&self, request: GpuRequest, outcome: &CommandOutcome) -> Verdict {
        if !outcome.is_success() {
            return failed(outcome.failure());
        }
        let output = ProbeOutput::from_output(&outcome.out);
        let wanted = self.requested(request);
        let mut nodes: Vec<String> = wanted
            .iter()
            .map(|g| format!("nvidia{}", g.minor))
            .collect();
        nodes.sort();
        if output.nodes.is_none() {
            return failed("the probe did not say which nodes there are");
        }
        if output.gpu_nodes() != nodes {
            return failed(format!(
                "has the nodes {:?} and should have {nodes:?}",
                output.gpu_nodes()
            ));
        }
        let Some(cuda) = &output.cuda else {
            return failed("the probe ended before it said anything of CUDA");
        };
        if request == GpuRequest::None {
            return no_gpu_requested(&output, cuda);
        }
        match cuda {
            Cuda::NoLibrary { why } | Cuda::NoDevice { why } | Cuda::Failed { why } => failed(why),
            Cuda::Devices { devices, .. } => {
                let is_whole = wanted.iter().all(|g| g.slices == 0);
                let uuids = |texts: Vec<&str>| {
                    let mut uuids: Vec<String> = texts.into_iter().map(str::to_lowercase).collect();
                    uuids.sort();
                    uuids
                };
                let listed = uuids(devices.iter().map(|d| d.uuid.as_str()).collect());
                let expected = uuids(wanted.iter().map(|g| g.uuid.as_str()).collect());
                if is_whole && listed != expected {
                    return failed(format!(
                        "CUDA lists {listed:?} and should list {expected:?}"
                    ));
                }
                // A process sees only one slice with CUDA, so the UUIDs are not compared for slices.
                if devices.is_empty() {
                    return failed("CUDA lists no device");
                }
                self.sums(devices.iter().map(|d| &d.sum))
            }
        }
    }

    fn sums<'a>(&self, sums: impl Iterator<Item = &'a Sum>) -> Verdict {
        let host = self.host_verdict();
        let mut verdict = Verdict::Ok;
        for sum in sums {
            match (sum, &host) {
                (Sum::Passed { .. }, _) => {}
                (Sum::DoesNotCompute, Verdict::NotVerified(why)) => {
                    verdict = Verdict::NotVerified(why.clone());
                }
                (Sum::DoesNotCompute, _) => {
                    return failed("the driver computes on the host, and not here");
                }
                (Sum::Failed { why }, Verdict::Failed(same)) => {
                    verdict = Verdict::NotVerified(format!("{why}; on the host itself: {same}"));
                }
                (Sum::Failed { why }, _) => return failed(why),
            }
        }
        verdict
    }

    /// Judges what a graphics loader lists in a container that has all GPUs.
    pub(crate) fn graphics(
        of_host: Option<&Graphics>,
        name: &str,
        outcome: &CommandOutcome,
    ) -> Verdict {
        let on_host = match host_graphics(of_host, name) {
            Ok(count) => count,
            Err(not_run) => return not_run,
        };
        if !outcome.is_success() {
            return failed(outcome.failure());
        }
        let output = ProbeOutput::from_output(&outcome.out);
        match output.vulkan.or(output.egl) {
            None => failed(format!("the probe ended before it said anything of {name}")),
            Some(Graphics::NoLoader { why } | Graphics::Failed { why }) => failed(why),
            Some(Graphics::Devices { nvidia, .. }) if nvidia.len() == on_host => Verdict::Ok,
            Some(Graphics::Devices { nvidia, .. }) => failed(format!(
                "lists {} NVIDIA devices, and {on_host} on the host itself",
                nvidia.len()
            )),
        }
    }

    /// Judges `nvidia-smi -L`, which lists one line for each GPU.
    pub(crate) fn smi(&self, outcome: &CommandOutcome) -> Verdict {
        if !outcome.is_success() {
            return failed(outcome.failure());
        }
        let lines = outcome
            .out
            .lines()
            .filter(|l| l.starts_with("GPU "))
            .count();
        if lines == self.gpus.len() && lines > 0 {
            Verdict::Ok
        } else {
            failed(format!("lists {lines} GPUs of {}", self.gpus.len()))
        }
    }
}

pub(crate) const DOES_NOT_COMPUTE: &str = "the driver does not compute";

/// How many NVIDIA devices the host's loader lists, or the verdict where there is nothing to compare with.
pub(crate) fn host_graphics(of_host: Option<&Graphics>, name: &str) -> Result<usize, Verdict> {
    let why = match of_host {
        None => format!("the probe said nothing of {name} on the host itself"),
        Some(Graphics::NoLoader { .. }) => format!("this host has no loader for {name}"),
        Some(Graphics::Failed { why }) => format!("on the host itself: {why}"),
        Some(Graphics::Devices { nvidia, .. }) if nvidia.is_empty() => {
            format!("{name} lists no NVIDIA device on the host itself")
        }
        Some(Graphics::Devices { nvidia, .. }) => return Ok(nvidia.len()),
    };
    Err(Verdict::NotRun(why))
}

/// A container that asked for no GPU must have nothing of the driver.
fn no_gpu_requested(output: &ProbeOutput, cuda: &Cuda) -> Verdict {
    let nodes = output.nodes.as_deref().unwrap_or_default();
    if !nodes.is_empty() {
        return failed(format!("asked for nothing and has the nodes {nodes:?}"));
    }
    match cuda {
        Cuda::NoLibrary { .. } => Verdict::Ok,
        other => failed(format!(
            "asked for nothing and has the driver's library: {other:?}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use gpu_run::probe_output::{Device, Part};
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;
    use std::time::Duration;

    use super::*;

    fn gpu(n: u32) -> Gpu {
        Gpu {
            index: n,
            minor: n,
            uuid: format!("GPU-{n}"),
            ..Gpu::default()
        }
    }

    fn devices(gpus: &[u32], sum: &Sum) -> Cuda {
        let device = |n: &u32| Device {
            name: "a GPU".into(),
            uuid: format!("GPU-{n}"),
            sum: sum.clone(),
        };
        Cuda::Devices {
            version: 13000,
            devices: gpus.iter().map(device).collect(),
        }
    }

    fn output(nodes: &[&str], cuda: Cuda) -> CommandOutcome {
        let nodes = Part::Nodes {
            names: nodes.iter().map(|n| (*n).to_owned()).collect(),
        };
        let line = |part: &Part| serde_json::to_string(part).unwrap();
        CommandOutcome {
            status: Some(ExitStatus::from_raw(0)),
            out: format!("{}\n{}\n", line(&nodes), line(&Part::Cuda(cuda))),
            err: String::new(),
            took: Duration::ZERO,
            error: None,
        }
    }

    fn baseline(sum: &Sum) -> Baseline {
        let host = ProbeOutput {
            cuda: Some(devices(&[0, 1], sum)),
            ..ProbeOutput::default()
        };
        Baseline {
            gpus: vec![gpu(0), gpu(1)],
            host,
        }
    }

    const PASSED: Sum = Sum::Passed { elements: 3 };

    #[test]
    fn only_the_requested_gpu_passes() {
        let baseline = baseline(&PASSED);
        let right = output(&["nvidia0", "nvidiactl"], devices(&[0], &PASSED));
        assert_eq!(baseline.compute(GpuRequest::First, &right), Verdict::Ok);
        for wrong in [
            output(&["nvidia0", "nvidia1"], devices(&[0], &PASSED)),
            output(&["nvidia1"], devices(&[0], &PASSED)),
            output(&["nvidia0"], devices(&[1], &PASSED)),
            output(&["nvidia0"], devices(&[0, 1], &PASSED)),
            output(&["nvidia0"], devices(&[], &PASSED)),
            output(
                &["nvidia0"],
                Cuda::NoLibrary {
                    why: "not there".into(),
                },
            ),
            output(&[], devices(&[], &PASSED)),
        ] {
            assert!(
                matches!(
                    baseline.compute(GpuRequest::First, &wrong),
                    Verdict::Failed(_)
                ),
                "{}",
                wrong.out
            );
        }
    }

    #[test]
    fn a_container_that_requests_no_gpu_gets_nothing() {
        let baseline = baseline(&PASSED);
        let none = Cuda::NoLibrary {
            why: "not there".into(),
        };
        assert_eq!(
            baseline.compute(GpuRequest::None, &output(&[], none.clone())),
            Verdict::Ok
        );
        for wrong in [
            output(&["nvidiactl"], none),
            output(&[], Cuda::NoDevice { why: "none".into() }),
        ] {
            assert!(matches!(
                baseline.compute(GpuRequest::None, &wrong),
                Verdict::Failed(_)
            ));
        }
    }

    #[test]
    fn a_driver_that_does_not_compute_is_never_ok() {
        let right = output(&["nvidia0"], devices(&[0], &Sum::DoesNotCompute));
        let same = baseline(&Sum::DoesNotCompute).compute(GpuRequest::First, &right);
        assert_eq!(same, Verdict::NotVerified(DOES_NOT_COMPUTE.into()));
        // The baseline computes on the host.
        assert!(matches!(
            baseline(&PASSED).compute(GpuRequest::First, &right),
            Verdict::Failed(_)
        ));
        let wrong = output(
            &["nvidia0"],
            devices(
                &[0],
                &Sum::Failed {
                    why: "wrong".into(),
                },
            ),
        );
        assert!(matches!(
            baseline(&PASSED).compute(GpuRequest::First, &wrong),
            Verdict::Failed(_)
        ));
    }

    #[test]
    fn graphics_are_compared_with_the_hosts() {
        let list = |n: usize| Graphics::Devices {
            nvidia: vec!["a".into(); n],
            others: 1,
        };
        let output_of = |graphics: Graphics| {
            let mut outcome = output(&[], devices(&[], &PASSED));
            outcome.out = serde_json::to_string(&Part::Vulkan(graphics)).unwrap();
            outcome
        };
        assert_eq!(
            Baseline::graphics(Some(&list(2)), "Vulkan", &output_of(list(2))),
            Verdict::Ok
        );
        assert!(matches!(
            Baseline::graphics(Some(&list(2)), "Vulkan", &output_of(list(1))),
            Verdict::Failed(_)
        ));
        assert!(matches!(
            Baseline::graphics(Some(&list(0)), "Vulkan", &output_of(list(0))),
            Verdict::NotRun(_)
        ));
    }
}
