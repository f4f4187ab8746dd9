//! Asks the driver by NVML, in a process of its own: with a GPU off the bus or a driver in reset NVML may never answer, and a
//! process can be left behind where a call cannot.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use gpu_host::nvlink::{self, Links};
use gpu_host::{Inventory, NvmlUse, nvml};
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::error::invocation::Invocation;
use crate::error::program_fault::ProgramFault;
use crate::host::Host;
use crate::host::wait_limit::WaitLimit;

/// The hidden command that a run starts itself with.
pub const COMMAND: &str = "ask-nvml";
/// Its option for links instead of GPUs.
const LINKS: &str = "--links";
/// How long a command waits that somebody waits for: a user, or the engines at boot. A library that still works is waited for
/// longer than one that waits for the driver itself.
pub const SOON: WaitLimit = WaitLimit {
    all: Duration::from_secs(60),
    idle: Some(Duration::from_secs(5)),
};
/// How long a refresh waits for which nobody waits: a driver without persistence mode has answered after 25 s.
pub const PATIENT: WaitLimit = WaitLimit {
    all: Duration::from_secs(120),
    idle: None,
};

/// Has discovery ask in a process of its own, which gets this much time.
pub fn within(host: &Host, patience: WaitLimit) -> NvmlUse {
    if !host.is_live() {
        return NvmlUse::No;
    }
    let host = host.clone();
    NvmlUse::by(move |library| ask(&host, library, &[], patience))
}

/// The `NVLink` links between GPUs that are up. Empty where NVML does not answer or knows of none.
pub fn links(host: &Host, inventory: &Inventory) -> Vec<Links> {
    let library = inventory.driver.as_ref().and_then(gpu_host::nvml_library);
    let answer = library.map(|library| ask(host, library, &[LINKS], SOON));
    answer.and_then(Result::ok).unwrap_or_default()
}

fn ask<T: DeserializeOwned>(
    host: &Host,
    library: &OsStr,
    more: &[&str],
    patience: WaitLimit,
) -> Result<T, String> {
    // This very program, even if an upgrade has replaced its file; a sandbox may have no /proc.
    let exe = Path::new("/proc/self/exe");
    let own = if host.root().exists(exe) {
        exe.to_owned()
    } else {
        std::env::args_os().next().unwrap_or_default().into()
    };
    let library = library.to_str().ok_or("the library's path is not UTF-8")?;
    let own = own.to_str().ok_or("the path of gpusetup is not UTF-8")?;
    answer(host, &[&[own, COMMAND, library], more].concat(), patience)
}

fn answer<T: DeserializeOwned>(
    host: &Host,
    argv: &[&str],
    patience: WaitLimit,
) -> Result<T, String> {
    let out = host.run_patiently(argv, patience).map_err(|e| match e {
        Error::Program {
            fault: ProgramFault::TooSlow(seconds),
            ..
        } => format!("no answer in {seconds} s"),
        e => e.to_string(),
    })?;
    if !out.has_succeeded() {
        return Err(out.last_line().to_owned());
    }
    serde_json::from_str(&out.stdout).map_err(|e| format!("not understood: {e}"))
}

/// Starts a refresh that waits longer, in a unit for which nobody waits. The same one is not started twice.
pub fn ask_later(host: &Host) {
    if !host.is_live() || !host.root().exists("/run/systemd/system") {
        return;
    }
    let driver_root = host.driver_root.display().to_string();
    let refresh = [
        "gpusetup",
        "--quiet",
        "--driver-root",
        &driver_root,
        "cdi",
        "refresh",
        "--patient",
    ];
    let unit = [
        "systemd-run",
        "--no-block",
        "--collect",
        "--unit=gpusetup-cdi-later",
    ];
    if let Err(e) = host.run_patiently(&[&unit[..], &refresh].concat(), SOON) {
        log::debug!("{e}");
    }
}

/// What the process of its own does: reads what the library at this path says, of GPUs or of the links between them.
pub fn read(library: &Path, links: bool) -> Result<String, String> {
    let library = library.as_os_str();
    let text = if links {
        serde_json::to_string(&nvlink::links(library).map_err(|e| e.to_string())?)
    } else {
        serde_json::to_string(&nvml::read(library).map_err(|e| e.to_string())?)
    };
    text.map_err(|e| e.to_string())
}

/// What a user has to know of how the GPUs were found: which are left out, and that NVML did not answer.
pub fn findings(inventory: &Inventory) -> Vec<String> {
    let silence = inventory.nvml_silence.iter().map(|why| {
        format!(
            "the driver's NVML did not answer ({why}): the GPUs are as they were last described, or as the kernel lists them, \
             without UUIDs of MIG devices"
        )
    });
    let disputed = inventory.disputed.iter().map(|gpu| {
        format!(
            "GPU {} ({}) is left out, and no container gets another one in its place: {}",
            gpu.index, gpu.pci, gpu.why
        )
    });
    silence.chain(disputed).collect()
}

/// The same, each with what to do.
pub fn remarks(inventory: &Inventory) -> Vec<String> {
    let findings = findings(inventory).into_iter();
    let remarks = findings.map(|what| {
        format!(
            "{what}; once nvidia-smi lists every GPU: {}",
            Invocation::CdiRefresh
        )
    });
    remarks.collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use gpu_host::NvmlAnswer;

    use super::*;

    #[test]
    fn a_driver_that_does_not_answer_holds_up_nobody() {
        let host = Host::open(Path::new("/"), Path::new("/")).unwrap();
        let started = Instant::now();
        let limit = Duration::from_millis(300);
        let answer = |argv: &[&str], limit| -> NvmlAnswer {
            super::answer(&host, argv, WaitLimit::all(limit))
        };
        let why = answer(&["sleep", "1000"], limit).unwrap_err();
        assert!(why.contains("no answer"), "{why}");
        assert!(started.elapsed() < Duration::from_secs(30));
        let why = answer(&["echo", "{"], limit * 100).unwrap_err();
        assert!(why.contains("not understood"), "{why}");
        let why = answer(&["sh", "-c", "echo no library >&2; exit 1"], limit * 100);
        assert_eq!(why.unwrap_err(), "no library");
        let reading = Some(gpu_host::NvmlReading::default());
        let text = serde_json::to_string(&reading).unwrap();
        assert_eq!(answer(&["echo", &text], limit * 100), Ok(reading));
        assert_eq!(answer(&["echo", "null"], limit * 100), Ok(None));
    }
}
