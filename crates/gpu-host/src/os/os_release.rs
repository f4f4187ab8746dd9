//! Files of `KEY=value` lines that a shell could source, such as os-release(5).

/// A field of a file that a shell could source; the last one counts, an empty one does not.
pub(crate) fn field(text: &str, key: &str) -> Option<String> {
    text.lines()
        .filter_map(|l| l.trim_start().strip_prefix(key)?.strip_prefix('='))
        .map(unquoted)
        .rfind(|v| !v.is_empty())
}

/// A value as the shell would read it: quotes off, `\x` is `x`.
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
