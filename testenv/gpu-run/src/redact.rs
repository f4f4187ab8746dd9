//! Replaces what identifies this machine (UUIDs, serial numbers, the host's name) by names that are stable within a
//! report. Models, versions and PCI addresses stay.

use std::collections::BTreeMap;

use regex_lite::{Captures, Regex};

pub(crate) struct Redactor {
    uuid: Regex,
    labelled: Regex,
    /// The host's names, longest first.
    names: Vec<Regex>,
    numbers: BTreeMap<String, usize>,
    keep_all: bool,
}

impl Redactor {
    /// A redactor for a host with this name. With `keep_all` it changes nothing.
    pub(crate) fn new(host_name: &str, keep_all: bool) -> Self {
        let pattern =
            |text: &str| Regex::new(text).expect("a pattern of this file, with names escaped");
        let short = host_name.split('.').next().unwrap_or_default();
        // A name that is also a word of the report identifies nobody.
        let is_name =
            |n: &&str| n.len() > 2 && !["localhost", "host", "gpu", "docker", "linux"].contains(n);
        let names = [host_name, short].into_iter().filter(is_name);
        let names = names
            .map(|n| pattern(&format!(r"\b{}\b", regex_lite::escape(n))))
            .collect();
        Self {
            // This also matches identifiers as the kernel writes them: boot_id, machine-id.
            uuid: pattern(
                r"(?i)\b((?:GPU|MIG)-)?([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\b",
            ),
            labelled: pattern(
                r"(?im)^(\s*(?:serial(?: number)?|board part number|gpu part number)\s*:\s*)\S.*$",
            ),
            names,
            numbers: BTreeMap::new(),
            keep_all,
        }
    }

    /// Numbers these first, in PCI order, so that they are the same in every report of the host.
    pub(crate) fn number_first(&mut self, uuids: impl IntoIterator<Item = String>) {
        for uuid in uuids {
            let bare = uuid.trim_start_matches("GPU-").to_lowercase();
            self.number(bare);
        }
    }

    fn number(&mut self, uuid: String) -> usize {
        let next = self.numbers.len();
        *self.numbers.entry(uuid).or_insert(next)
    }

    pub(crate) fn text(&mut self, text: &str) -> String {
        if self.keep_all {
            return text.to_owned();
        }
        let uuid = self.uuid.clone();
        let text = uuid.replace_all(text, |captures: &Captures| {
            let number = self.number(captures[2].to_lowercase());
            format!(
                "{}00000000-0000-0000-0000-{number:012x}",
                captures.get(1).map_or("", |m| m.as_str())
            )
        });
        let text = self.labelled.replace_all(&text, "${1}0");
        let replace = |text: String, name: &Regex| name.replace_all(&text, "host").into_owned();
        self.names.iter().fold(text.into_owned(), replace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "GPU-fa4e0000-0000-4000-8000-000000000000";
    const SECOND: &str = "GPU-fa4e0000-0001-4000-8000-000000000001";

    #[test]
    fn an_identifier_always_gets_the_same_replacement() {
        let mut redactor = Redactor::new("node17.example.org", false);
        redactor.number_first([FIRST.to_owned(), SECOND.to_owned()]);
        let text = format!(
            "{SECOND} on node17.example.org, {FIRST}, {}, node17: node170",
            FIRST.to_uppercase()
        );
        let redacted = redactor.text(&text);
        assert_eq!(
            redacted,
            "GPU-00000000-0000-0000-0000-000000000001 on host, GPU-00000000-0000-0000-0000-000000000000, \
             GPU-00000000-0000-0000-0000-000000000000, host: node170"
        );
        assert_eq!(
            redactor.text("Serial Number : 1234567\nBus: 0"),
            "Serial Number : 0\nBus: 0"
        );
        assert_eq!(
            redactor.text("0000:3b:00.0 580.159.04"),
            "0000:3b:00.0 580.159.04"
        );
    }

    #[test]
    fn keep_all_changes_nothing() {
        assert_eq!(Redactor::new("node17", true).text(FIRST), FIRST);
    }
}
