//! Masks systemd units and their drop-ins.

use super::kinds::KnownKind;
use super::mark::mark;
use super::text;

pub(super) fn mask(text: &str, kind: &KnownKind) -> String {
    let mut out = String::with_capacity(text.len());
    let mut section = String::new();
    let mut lines = text.split_inclusive('\n');
    while let Some(line) = lines.next() {
        let trimmed = line.trim();
        let end = if line.ends_with('\n') { "\n" } else { "" };
        if trimmed.is_empty() {
            out.push_str(line);
        } else if trimmed.starts_with(['#', ';']) {
            out.push_str(&format!(
                "{}{}{end}",
                &trimmed[..1],
                text::mask_comment(&trimmed[1..])
            ));
        } else if trimmed.starts_with('[') && trimmed.ends_with(']') && trimmed.len() < 64 {
            section = trimmed[1..trimmed.len() - 1].to_owned();
            out.push_str(&format!("[{}]{end}", KnownKind::key(&section)));
        } else {
            // Lines joined by a backslash form one value.
            let mut whole = line.to_owned();
            while whole.trim_end().ends_with('\\') {
                let Some(more) = lines.next() else { break };
                whole.push_str(more);
            }
            let end = if whole.ends_with('\n') { "\n" } else { "" };
            let whole = whole.strip_suffix('\n').unwrap_or(&whole);
            match whole.split_once('=') {
                Some((key, value)) if is_key(key.trim()) => {
                    let path = [section.clone(), key.trim().to_owned()];
                    let value = kind.value(&path, value, "string");
                    out.push_str(&format!("{}={value}{end}", KnownKind::key(key)));
                }
                _ => out.push_str(&format!("{}{end}", mark("text", whole))),
            }
        }
    }
    out
}

/// Whether a text is a key as in systemd.syntax(7). Any other text before a `=` is not a key and
/// may be part of a secret.
fn is_key(text: &str) -> bool {
    let is_sign = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    !text.is_empty() && text.bytes().all(is_sign)
}
