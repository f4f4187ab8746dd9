//! Runs after all other test programs of `cargo test`, whose packages come in the order of their
//! names, and lists what they skipped.
use std::io::Write;

fn main() {
    let text = match skips::of_this_run() {
        Ok(lines) if lines.is_empty() => "skipped: nothing\n".to_owned(),
        Ok(lines) => {
            let count = lines.len();
            let list: String = lines
                .iter()
                .map(|l| format!("    {}\n", l.trim_start_matches("skipped: ")))
                .collect();
            format!("skipped: {count}; these tests, or parts of them, did not run here:\n{list}")
        }
        Err(error) => panic!("the record of skipped tests: {error}"),
    };
    // Standard error that is closed has no reader.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
