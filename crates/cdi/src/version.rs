//! The versions of the CDI specification, and which of them a spec needs.

use crate::spec::{ContainerEdits, Spec};

/// All versions, oldest first (SPEC.md, "Released versions").
pub(crate) const KNOWN: [&str; 8] = [
    "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0",
];

impl Spec {
    /// The lowest version that has all features this spec uses. Older engines refuse a spec with a
    /// version that they do not know.
    pub fn minimum_version(&self) -> &'static str {
        let all = || {
            std::iter::once(&self.container_edits)
                .chain(self.devices.iter().map(|d| &d.container_edits))
        };
        let any = |test: fn(&ContainerEdits) -> bool| all().any(test);
        // The versions of the features: SPEC.md, "Version History".
        if any(|e| e.intel_rdt.is_some() || !e.additional_gids.is_empty()) {
            "0.7.0"
        } else if !self.annotations.is_empty()
            || self.devices.iter().any(|d| !d.annotations.is_empty())
            || self.kind.split('/').nth(1).is_some_and(|c| c.contains('.'))
        {
            "0.6.0"
        } else if any(|e| e.device_nodes.iter().any(|n| n.host_path.is_some()))
            || self
                .devices
                .iter()
                .any(|d| !d.name.starts_with(|c: char| c.is_ascii_alphabetic()))
        {
            "0.5.0"
        } else if any(|e| e.mounts.iter().any(|m| m.kind.is_some())) {
            "0.4.0"
        } else {
            "0.3.0"
        }
    }
}
