//! The driver's parameters, and the copy of ours that a container sees in their place.

/// The driver's parameters; a container that reads `ModifyDeviceFiles: 1` there makes
/// device nodes on its own (driver README, "Registry keys").
pub const PARAMS: &str = "/proc/driver/nvidia/params";
/// Our copy that says 0, written by `gpusetup install` and `gpusetup cdi refresh`. The
/// hook may run as a user who cannot write on the host.
pub const PARAMS_MASK: &str = "/run/gpusetup/params";

/// What the mask says, for parameters of this text.
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
