//! Reads the container's log file, which the engine writes in the format for kubelets: lines `time stream F|P text`
//! (kubernetes pkg/kubelet/kuberuntime/logs).

use std::path::Path;

/// The complete lines of the log, each with whether it is from standard error.
pub(crate) fn lines(path: &Path) -> Vec<(bool, String)> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<(bool, String)> = Vec::new();
    let mut is_open = false;
    for line in text
        .split_inclusive('\n')
        .filter_map(|l| l.strip_suffix('\n'))
    {
        let mut fields = line.splitn(4, ' ').skip(1);
        let is_error = fields.next() == Some("stderr");
        let is_part = fields.next() == Some("P");
        let text = fields.next().unwrap_or_default();
        match lines.last_mut() {
            Some((_, whole)) if is_open => whole.push_str(text),
            _ => lines.push((is_error, text.to_owned())),
        }
        is_open = is_part;
    }
    if is_open {
        lines.pop();
    }
    lines
}

/// Prints the log.
pub(crate) fn print(path: &Path) {
    for (is_error, line) in lines(path) {
        if is_error {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_in_parts_is_one_and_one_without_its_end_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(
            &path,
            "t stdout P {\"a\nt stdout F \": 1}\nt stderr F no\nt stdout P half\n",
        )
        .unwrap();
        assert_eq!(
            lines(&path),
            [(false, "{\"a\": 1}".to_owned()), (true, "no".to_owned())]
        );
        assert!(lines(Path::new("/none")).is_empty());
    }
}
