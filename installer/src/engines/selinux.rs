//! Detects whether SELinux keeps containers from the GPU's device nodes. This is reported but never
//! changed, because it is the policy of the whole host.

use std::path::Path;

use crate::host::Host;

const FS: &str = "/sys/fs/selinux";
/// Each of these lets containers use nodes of type `xserver_misc_device_t`, which the driver's
/// nodes have. The narrower one comes first; container-selinux has it since 2024 (container.te).
const BOOLEANS: [&str; 2] = ["container_use_xserver_devices", "container_use_devices"];

/// What to do if SELinux is enforcing and denies containers the device nodes.
pub fn denies(host: &Host) -> Option<String> {
    let lets = turn_on(denying(host)?);
    Some(format!(
        "SELinux keeps containers from the GPU's device nodes: `{lets}` lets them"
    ))
}

/// The command that turns a boolean on for good.
pub fn turn_on(boolean: &str) -> String {
    format!("setsebool -P {boolean} on")
}

/// The boolean that would let containers use the nodes, if SELinux is enforcing and denies that.
pub fn denying(host: &Host) -> Option<&'static str> {
    let text = |name: &str| host.root().read_to_string(Path::new(FS).join(name)).ok();
    if text("enforce")?.trim() != "1" {
        return None;
    }
    // "1 1": the current value, and the value after pending changes are committed.
    let value = |name: &str| text(&format!("booleans/{name}"));
    let is_on = |name: &str| value(name).is_some_and(|v| v.trim_start().starts_with('1'));
    if BOOLEANS.iter().any(|name| is_on(name)) {
        return None;
    }
    // A policy with neither does not know containers and confines none.
    BOOLEANS.into_iter().find(|name| value(name).is_some())
}
