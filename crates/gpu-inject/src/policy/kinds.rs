//! Patterns for kinds of CDI devices in the policy: `vendor/class` or `vendor/*`.

use cdi::QualifiedName;

const ALL_CLASSES: &str = "/*";

/// Whether `kind` matches `pattern`. The vendor must be equal: `nvidia.com/*` does not match
/// `evil.nvidia.com/gpu`.
pub fn is_of_kind(kind: &str, pattern: &str) -> bool {
    match (pattern.strip_suffix(ALL_CLASSES), kind.split_once('/')) {
        (Some(vendor), Some((kinds_vendor, _))) => kinds_vendor == vendor,
        _ => kind == pattern,
    }
}

pub(super) fn is_pattern(text: &str) -> bool {
    let kind = match text.strip_suffix(ALL_CLASSES) {
        Some(vendor) => format!("{vendor}/any"),
        None => text.to_owned(),
    };
    format!("{kind}=any")
        .parse::<QualifiedName>()
        .is_ok_and(|name| name.kind == kind)
}
