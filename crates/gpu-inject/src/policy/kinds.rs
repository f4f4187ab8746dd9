//! Kinds of CDI devices as the policy lists them: `vendor/class`, or `vendor/*`.

use cdi::QualifiedName;

const ALL_CLASSES: &str = "/*";

/// Whether `kind` is one of those that `pattern` means. The vendor is compared whole:
/// `nvidia.com/*` has nothing of `evil.nvidia.com`.
pub fn is_of_kind(kind: &str, pattern: &str) -> bool {
    match (pattern.strip_suffix(ALL_CLASSES), kind.split_once('/')) {
        (Some(vendor), Some((of, _))) => of == vendor,
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
