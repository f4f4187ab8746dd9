//! Reads files of `KEY=value` lines in shell syntax, such as os-release(5).

/// The last value of `key` that is not empty.
pub(crate) fn field(text: &str, key: &str) -> Option<String> {
    text.lines()
        .filter_map(|l| l.trim_start().strip_prefix(key)?.strip_prefix('='))
        .map(unquoted)
        .rfind(|v| !v.is_empty())
}

/// A value as the shell reads it: without quotes, and `\x` becomes `x`.
fn unquoted(value: &str) -> String {
    let value = value.trim();
    let inner = ['"', '\'']
        .iter()
        .find_map(|q| value.strip_prefix(*q)?.strip_suffix(*q))
        .unwrap_or(value);
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}
