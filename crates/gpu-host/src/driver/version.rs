//! The version of the loaded kernel module, and the format of driver versions.

use crate::root::Root;

/// Version of the loaded kernel module, from `/proc/driver/nvidia/version` or
/// `/sys/module/nvidia/version`.
pub fn loaded_version(root: &Root) -> Option<String> {
    if let Ok(text) = root.read_to_string("/proc/driver/nvidia/version") {
        // "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 ..."; the open
        // modules say "... Open Kernel Module for x86_64  580.65.06  Release Build ...".
        let line = text.lines().find(|l| l.starts_with("NVRM version"))?;
        return line
            .split_whitespace()
            .find(|w| is_version(w))
            .map(str::to_owned);
    }
    let text = root.read_to_string("/sys/module/nvidia/version").ok()?;
    Some(text.trim().to_owned()).filter(|v| is_version(v))
}

/// Whether `word` has the form of a driver version such as `580.65.06` or `470.256`: two to four
/// numbers with dots between them, the first with three digits at least.
pub(crate) fn is_version(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    (2..=4).contains(&parts.len())
        && parts
            .iter()
            .all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
        && parts.first().is_some_and(|p| p.len() >= 3)
}
