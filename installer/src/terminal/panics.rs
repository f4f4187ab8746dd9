//! Reports a panic as one line, without a backtrace, that says what to report and what to do. The
//! journal stays on disk for `gpusetup recover`.

use std::panic::{self, Location, PanicHookInfo};
use std::path::{Component, Path};

use crate::error::invocation::Invocation;

/// Installs the hook that reports panics this way. The exit code remains Rust's 101.
pub fn tell_in_a_line() {
    panic::set_hook(Box::new(|info| {
        let line = line(payload(info), info.location());
        log::error!("{line}");
        crate::terminal::stdio::say!("gpusetup: {line}");
    }));
}

fn payload<'a>(info: &'a PanicHookInfo<'_>) -> &'a str {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("an error without a text")
}

fn line(message: &str, at: Option<&Location<'_>>) -> String {
    let at = at.map_or_else(String::new, |at| {
        format!(" ({}:{})", short_path(at.file()), at.line())
    });
    let words: Vec<&str> = message.split_whitespace().collect();
    format!(
        "an error in gpusetup {} itself: {}{at}; please report this line. `{}` puts back what this run had begun",
        env!("CARGO_PKG_VERSION"),
        words.join(" "),
        Invocation::Recover
    )
}

/// Shortens a source path to start at the crate's directory, the parent of `src`. This leaves out
/// where the program was built.
fn short_path(file: &str) -> String {
    let parts = Path::new(file).components();
    let parts = parts.filter(|p| matches!(p, Component::Normal(_)));
    let parts: Vec<_> = parts.map(|p| p.as_os_str().to_string_lossy()).collect();
    let source = parts.iter().rposition(|p| p == "src");
    parts[source.map_or(0, |at| at.saturating_sub(1))..].join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_one_line_with_cause_place_and_advice() {
        let line = line("called `unwrap()`\non a `None`", Some(Location::caller()));
        assert!(!line.contains('\n'), "{line}");
        assert!(
            line.contains("called `unwrap()` on a `None` (installer/src/terminal/panics.rs:"),
            "{line}"
        );
        assert!(
            line.contains("report") && line.contains("gpusetup recover"),
            "{line}"
        );
        assert_eq!(
            short_path("/home/x/.cargo/registry/src/a/tar-1/src/lib.rs"),
            "tar-1/src/lib.rs"
        );
        assert_eq!(short_path("a.rs"), "a.rs");
    }
}
