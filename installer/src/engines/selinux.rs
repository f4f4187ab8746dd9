//! SELinux, where it keeps containers from the GPU's nodes. Told, never changed: it is the
//! policy of the whole host.

use std::path::Path;

use crate::host::Host;

const FS: &str = "/sys/fs/selinux";
/// Either lets containers at nodes of the type `xserver_misc_device_t`, which the driver's
/// have; the narrow one first, which container-selinux has since 2024 (container.te).
const BOOLEANS: [&str; 2] = ["container_use_xserver_devices", "container_use_devices"];

/// What to do where SELinux is enforcing and denies containers the nodes.
pub fn denies(host: &Host) -> Option<String> {
    let said = |name: &str| host.root().read_to_string(Path::new(FS).join(name)).ok();
    if said("enforce")?.trim() != "1" {
        return None;
    }
    // "1 1": now, and when the pending ones are committed.
    let value = |name: &str| said(&format!("booleans/{name}"));
    let is_on = |name: &str| value(name).is_some_and(|v| v.trim_start().starts_with('1'));
    if BOOLEANS.iter().any(|name| is_on(name)) {
        return None;
    }
    // With neither the policy knows no containers, and confines none.
    let name = BOOLEANS.iter().find(|name| value(name).is_some())?;
    Some(format!(
        "SELinux keeps containers from the GPU's device nodes: `setsebool -P {name} on` lets them"
    ))
}
