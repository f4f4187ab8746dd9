//! Compares the results of the driver's own programs in a container with their results on the host: a failure that
//! occurs on the host too is not the container's fault.

use std::time::Duration;

use probe_report::{DriverAnswers, ProgramAnswer};

use super::host_files::CUDA_INIT;
use crate::host::Host;

/// Time limit for each program on the host.
const LIMIT: Duration = Duration::from_secs(60);

/// Whether the driver's own programs work on the host.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnHost {
    /// `nvidia-smi`.
    pub nvidia_smi: bool,
    /// The initialization of CUDA.
    pub cuda: bool,
}

impl OnHost {
    /// Runs both programs.
    pub fn ask(host: &Host) -> Self {
        // One that does not answer here excuses no container: that is not known to be the host's fault.
        let works = |argv: &[&str]| {
            host.run(argv, LIMIT)
                .map_or(true, |out| out.has_succeeded())
        };
        Self {
            nvidia_smi: host.has_program("nvidia-smi") && works(&["nvidia-smi", "-L"]),
            cuda: host.root().exists(CUDA_INIT) && works(&[CUDA_INIT]),
        }
    }
}

/// What is wrong with the driver's programs in a container; `None` if nothing is, or if they do not work on the host
/// either.
pub fn trouble(driver: &DriverAnswers, on_host: OnHost) -> Option<String> {
    let smi = match &driver.nvidia_smi {
        ProgramAnswer::NoProgram => {
            return Some(
                "the nvidia-smi in the container is no program but a wrapper around one".into(),
            );
        }
        ProgramAnswer::Missing => Some("is not there".to_owned()),
        ProgramAnswer::Failed(why) => Some(format!("fails: {why}")),
        ProgramAnswer::NotRun(_) | ProgramAnswer::Ok(..) => None,
    };
    if let Some(smi) = smi.filter(|_| on_host.nvidia_smi) {
        return Some(format!("nvidia-smi in the container {smi}"));
    }
    match &driver.cuda {
        ProgramAnswer::Failed(why) if on_host.cuda => {
            Some(format!("CUDA does not start in the container: {why}"))
        }
        _ => None,
    }
}

/// What works, in a few words: `nvidia-smi and CUDA answer`.
pub fn works(driver: &DriverAnswers) -> Option<&'static str> {
    let ok = |answer: &ProgramAnswer| matches!(answer, ProgramAnswer::Ok(..));
    match (ok(&driver.nvidia_smi), ok(&driver.cuda)) {
        (true, true) => Some("nvidia-smi and CUDA answer"),
        (true, false) => Some("nvidia-smi answers"),
        (false, true) => Some("CUDA answers"),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: OnHost = OnHost {
        nvidia_smi: true,
        cuda: true,
    };

    fn driver(nvidia_smi: ProgramAnswer, cuda: ProgramAnswer) -> DriverAnswers {
        DriverAnswers { nvidia_smi, cuda }
    }

    fn ok() -> ProgramAnswer {
        ProgramAnswer::Ok(1, "GPU 0".into())
    }

    fn failed() -> ProgramAnswer {
        ProgramAnswer::Failed("CUDA error 999".into())
    }

    #[test]
    fn what_works_on_the_host_and_not_in_the_container_is_said() {
        let said = |smi, cuda| trouble(&driver(smi, cuda), BOTH).unwrap_or_default();
        assert_eq!(said(ok(), ok()), "");
        assert!(said(ok(), failed()).contains("CUDA error 999"));
        assert!(said(failed(), ok()).contains("nvidia-smi in the container fails"));
        assert!(said(ProgramAnswer::Missing, ok()).contains("is not there"));
        // An image without a C library shows nothing about the host's setup.
        let not_run = || ProgramAnswer::NotRun("no C library".into());
        assert_eq!(said(not_run(), not_run()), "");
        assert_eq!(said(ok(), ProgramAnswer::Missing), "");
    }

    #[test]
    fn what_fails_on_the_host_too_is_not_the_container_s_fault() {
        let none = OnHost::default();
        assert_eq!(trouble(&driver(failed(), failed()), none), None);
        assert_eq!(trouble(&driver(ProgramAnswer::Missing, ok()), none), None);
    }

    #[test]
    fn a_wrapper_is_noticed_on_any_host() {
        let wrapped = driver(ProgramAnswer::NoProgram, ok());
        let said = trouble(&wrapped, OnHost::default()).unwrap();
        assert!(said.contains("wrapper"), "{said}");
        assert_eq!(works(&wrapped), Some("CUDA answers"));
    }
}
