//! The driver's parameters file, and the masked copy that containers see instead of it.

/// The driver's parameters. The driver's user space in a container that reads
/// `ModifyDeviceFiles: 1` there makes device nodes itself (driver README, "Registry keys").
pub const PARAMS: &str = "/proc/driver/nvidia/params";
/// The masked copy with `ModifyDeviceFiles: 0`. `gpusetup install` and `gpusetup cdi refresh`
/// write it, because the hook may run as a user who cannot write on the host.
pub const PARAMS_MASK: &str = "/run/gpusetup/params";

/// The text of the masked copy, made from the text of the parameters.
pub fn masked_params(params: &str) -> String {
    params
        .lines()
        .map(|line| match line.split_once(':') {
            Some(("ModifyDeviceFiles", _)) => "ModifyDeviceFiles: 0\n".to_owned(),
            _ => format!("{line}\n"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_parameter_changes() {
        let text = "ResmanDebugLevel: 4294967295\nModifyDeviceFiles: 1\nDeviceFileUID: 0\n";
        assert_eq!(masked_params(text), text.replace("Files: 1", "Files: 0"));
    }
}
