//! Whether what a container saw is what it asked for. The host itself, looked at in the same way, is the measure.

use gpu_run::seen::{Cuda, Graphics, Seen, Sum};

use crate::command::Ended;
use crate::report::{Gpu, Verdict};

/// What a container asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    Nothing,
    /// The first GPU alone; of one with slices the first slice.
    First,
    All,
}

/// The GPUs, and what the probe saw on the host itself.
#[derive(Debug, Default)]
pub(crate) struct Measure {
    pub(crate) gpus: Vec<Gpu>,
    pub(crate) host: Seen,
}

fn failed(why: impl Into<String>) -> Verdict {
    Verdict::Failed(why.into())
}

impl Measure {
    fn wanted(&self, asks: Asks) -> &[Gpu] {
        match asks {
            Asks::Nothing => &[],
            Asks::First => &self.gpus[..self.gpus.len().min(1)],
            Asks::All => &self.gpus,
        }
    }

    /// What the host's own driver does, before any container is tried.
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

    /// A container that should have these GPUs, no other, and a driver that computes on them.
    pub(crate) fn compute(&self, asks: Asks, ended: &Ended) -> Verdict {
        if !ended.is_success() {
            return failed(ended.failure());
        }
        let seen = Seen::from_output(&ended.out);
        let wanted = self.wanted(asks);
        let mut nodes: Vec<String> = wanted
            .iter()
            .map(|g| format!("nvidia{}", g.minor))
            .collect();
        nodes.sort();
        if seen.nodes.is_none() {
            return failed("the probe did not say which nodes there are");
        }
        if seen.gpu_nodes() != nodes {
            return failed(format!(
                "has the nodes {:?} and should have {nodes:?}",
                seen.gpu_nodes()
            ));
        }
        let Some(cuda) = &seen.cuda else {
            return failed("the probe ended before it said anything of CUDA");
        };
        if asks == Asks::Nothing {
            return nothing(&seen, cuda);
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
                let found = uuids(devices.iter().map(|d| d.uuid.as_str()).collect());
                let should = uuids(wanted.iter().map(|g| g.uuid.as_str()).collect());
                if is_whole && found != should {
                    return failed(format!("CUDA lists {found:?} and should list {should:?}"));
                }
                // Of slices CUDA gives a process one.
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

    /// What a graphics loader lists in a container that has all GPUs.
    pub(crate) fn graphics(of_host: Option<&Graphics>, name: &str, ended: &Ended) -> Verdict {
        let on_host = match can_graphics(of_host, name) {
            Ok(count) => count,
            Err(not_run) => return not_run,
        };
        if !ended.is_success() {
            return failed(ended.failure());
        }
        let seen = Seen::from_output(&ended.out);
        match seen.vulkan.or(seen.egl) {
            None => failed(format!("the probe ended before it said anything of {name}")),
            Some(Graphics::NoLoader { why } | Graphics::Failed { why }) => failed(why),
            Some(Graphics::Devices { nvidia, .. }) if nvidia.len() == on_host => Verdict::Ok,
            Some(Graphics::Devices { nvidia, .. }) => failed(format!(
                "lists {} NVIDIA devices, and {on_host} on the host itself",
                nvidia.len()
            )),
        }
    }

    /// The driver's own program, which lists a line for each GPU.
    pub(crate) fn smi(&self, ended: &Ended) -> Verdict {
        if !ended.is_success() {
            return failed(ended.failure());
        }
        let lines = ended.out.lines().filter(|l| l.starts_with("GPU ")).count();
        if lines == self.gpus.len() && lines > 0 {
            Verdict::Ok
        } else {
            failed(format!("lists {lines} GPUs of {}", self.gpus.len()))
        }
    }
}

pub(crate) const DOES_NOT_COMPUTE: &str = "the driver does not compute";

/// How many devices of NVIDIA's the host's loader lists, or why there is nothing to compare with.
pub(crate) fn can_graphics(of_host: Option<&Graphics>, name: &str) -> Result<usize, Verdict> {
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

/// A container that asked for nothing has nothing of the driver.
fn nothing(seen: &Seen, cuda: &Cuda) -> Verdict {
    let nodes = seen.nodes.as_deref().unwrap_or_default();
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
    use gpu_run::seen::{Device, Part};
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

    fn output(nodes: &[&str], cuda: Cuda) -> Ended {
        let nodes = Part::Nodes {
            names: nodes.iter().map(|n| (*n).to_owned()).collect(),
        };
        let line = |part: &Part| serde_json::to_string(part).unwrap();
        Ended {
            status: Some(ExitStatus::from_raw(0)),
            out: format!("{}\n{}\n", line(&nodes), line(&Part::Cuda(cuda))),
            err: String::new(),
            took: Duration::ZERO,
            why_not: None,
        }
    }

    fn measure(sum: &Sum) -> Measure {
        let host = Seen {
            cuda: Some(devices(&[0, 1], sum)),
            ..Seen::default()
        };
        Measure {
            gpus: vec![gpu(0), gpu(1)],
            host,
        }
    }

    const PASSED: Sum = Sum::Passed { elements: 3 };

    #[test]
    fn the_gpu_asked_for_and_no_other() {
        let measure = measure(&PASSED);
        let right = output(&["nvidia0", "nvidiactl"], devices(&[0], &PASSED));
        assert_eq!(measure.compute(Asks::First, &right), Verdict::Ok);
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
                matches!(measure.compute(Asks::First, &wrong), Verdict::Failed(_)),
                "{}",
                wrong.out
            );
        }
    }

    #[test]
    fn nothing_asked_is_nothing_there() {
        let measure = measure(&PASSED);
        let none = Cuda::NoLibrary {
            why: "not there".into(),
        };
        assert_eq!(
            measure.compute(Asks::Nothing, &output(&[], none.clone())),
            Verdict::Ok
        );
        for wrong in [
            output(&["nvidiactl"], none),
            output(&[], Cuda::NoDevice { why: "none".into() }),
        ] {
            assert!(matches!(
                measure.compute(Asks::Nothing, &wrong),
                Verdict::Failed(_)
            ));
        }
    }

    #[test]
    fn a_driver_that_does_not_compute_is_never_ok() {
        let right = output(&["nvidia0"], devices(&[0], &Sum::DoesNotCompute));
        let same = measure(&Sum::DoesNotCompute).compute(Asks::First, &right);
        assert_eq!(same, Verdict::NotVerified(DOES_NOT_COMPUTE.into()));
        // It does on the host.
        assert!(matches!(
            measure(&PASSED).compute(Asks::First, &right),
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
            measure(&PASSED).compute(Asks::First, &wrong),
            Verdict::Failed(_)
        ));
    }

    #[test]
    fn graphics_are_compared_with_the_hosts() {
        let list = |n: usize| Graphics::Devices {
            nvidia: vec!["a".into(); n],
            others: 1,
        };
        let said = |graphics: Graphics| {
            let mut ended = output(&[], devices(&[], &PASSED));
            ended.out = serde_json::to_string(&Part::Vulkan(graphics)).unwrap();
            ended
        };
        assert_eq!(
            Measure::graphics(Some(&list(2)), "Vulkan", &said(list(2))),
            Verdict::Ok
        );
        assert!(matches!(
            Measure::graphics(Some(&list(2)), "Vulkan", &said(list(1))),
            Verdict::Failed(_)
        ));
        assert!(matches!(
            Measure::graphics(Some(&list(0)), "Vulkan", &said(list(0))),
            Verdict::NotRun(_)
        ));
    }
}
