//! What names this one machine is replaced by names that stay the same within a report: UUIDs, serial numbers, the host's
//! name. Models, versions and PCI addresses stay.

use std::collections::BTreeMap;

use regex_lite::{Captures, Regex};

pub(crate) struct Redactor {
    uuid: Regex,
    labelled: Regex,
    /// The host's names, longest first.
    names: Vec<Regex>,
    known: BTreeMap<String, usize>,
    keeps: bool,
}

impl Redactor {
    /// Of a host with these names. One that keeps changes nothing.
    pub(crate) fn new(host_name: &str, keeps: bool) -> Self {
        let pattern =
            |text: &str| Regex::new(text).expect("a pattern of this file, with names escaped");
        let short = host_name.split('.').next().unwrap_or_default();
        // A name that is also a word of the report names nobody.
        let is_name =
            |n: &&str| n.len() > 2 && !["localhost", "host", "gpu", "docker", "linux"].contains(n);
        let names = [host_name, short].into_iter().filter(is_name);
        let names = names
            .map(|n| pattern(&format!(r"\b{}\b", regex_lite::escape(n))))
            .collect();
        Self {
            // Also as the kernel writes identifiers: /proc/sys/kernel/random/boot_id, machine-id.
            uuid: pattern(
                r"(?i)\b((?:GPU|MIG)-)?([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\b",
            ),
            labelled: pattern(
                r"(?im)^(\s*(?:serial(?: number)?|board part number|gpu part number)\s*:\s*)\S.*$",
            ),
            names,
            known: BTreeMap::new(),
            keeps,
        }
    }

    /// Gives these their numbers first, so that they are the same in every report of the host: GPUs in PCI order.
    pub(crate) fn knows(&mut self, uuids: impl IntoIterator<Item = String>) {
        for uuid in uuids {
            let bare = uuid.trim_start_matches("GPU-").to_lowercase();
            self.number(bare);
        }
    }

    fn number(&mut self, uuid: String) -> usize {
        let next = self.known.len();
        *self.known.entry(uuid).or_insert(next)
    }

    pub(crate) fn text(&mut self, text: &str) -> String {
        if self.keeps {
            return text.to_owned();
        }
        let uuid = self.uuid.clone();
        let text = uuid.replace_all(text, |found: &Captures| {
            let number = self.number(found[2].to_lowercase());
            format!(
                "{}00000000-0000-0000-0000-{number:012x}",
                found.get(1).map_or("", |m| m.as_str())
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
    fn the_same_name_is_replaced_by_the_same() {
        let mut redactor = Redactor::new("node17.example.org", false);
        redactor.knows([FIRST.to_owned(), SECOND.to_owned()]);
        let text = format!(
            "{SECOND} on node17.example.org, {FIRST}, {}, node17: node170",
            FIRST.to_uppercase()
        );
        let said = redactor.text(&text);
        assert_eq!(
            said,
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
    fn what_keeps_changes_nothing() {
        assert_eq!(Redactor::new("node17", true).text(FIRST), FIRST);
    }
}
