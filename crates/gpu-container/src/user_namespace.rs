//! Whether this process is in a user namespace.

use std::fs;

/// Whether this is a user namespace other than the host's, where root may read everything (`user_namespaces(7)`,
/// "User and group ID mappings"). If unknown, it counts as the host's.
pub(crate) fn is_mapped() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let numbers: Vec<&str> = map.split_whitespace().collect();
    !matches!(numbers[..], [] | ["0", "0", "4294967295"])
}
