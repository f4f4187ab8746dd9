//! Tells whether k3s has read a template as it is now. It reads it at each start, so what stands there counts from the next
//! restart on, whoever causes that.

use std::path::PathBuf;

/// The lines around what is ours in a template.
pub(super) const BEGIN: &str = "# gpusetup: begin";
pub(super) const END: &str = "# gpusetup: end";

/// A template that is not read yet.
#[derive(Debug, PartialEq, Eq)]
pub struct PendingTemplate {
    /// Its path.
    pub path: PathBuf,
    /// Whether it only adds to the built-in template, so that all that a node needs is in the generated file.
    pub has_base: bool,
    /// The names of the runtimes that it defines, without ours.
    pub runtimes: Vec<String>,
}

impl PendingTemplate {
    /// `None` if the generated file has all that the template says.
    pub fn of(path: PathBuf, text: &str, rendered: &str) -> Option<Self> {
        let lines = literal(text);
        let is_there = |line: &str| rendered.lines().any(|l| l.trim() == line);
        if lines.iter().all(|line| is_there(line)) {
            return None;
        }
        let tables = lines.iter().filter_map(|line| {
            let table = line.strip_prefix('[')?.split(']').next()?;
            let (_, name) = table.split_once(".containerd.runtimes.")?;
            let name = name.trim().trim_matches(['"', '\'']);
            Some(
                name.split(['.', '"', '\''])
                    .next()
                    .unwrap_or(name)
                    .to_owned(),
            )
        });
        Some(Self {
            has_base: has_base(text),
            runtimes: tables.collect(),
            path,
        })
    }
}

/// Whether the text includes the built-in template (docs.k3s.io, "Base template").
fn has_base(text: &str) -> bool {
    let mut actions = text
        .split("{{")
        .skip(1)
        .filter_map(|rest| rest.split("}}").next());
    actions.any(|action| {
        let words: Vec<&str> = action.trim_matches(['-', ' ']).split_whitespace().collect();
        matches!(words.as_slice(), ["template", "\"base\"" | "`base`", ..])
    })
}

/// The lines that are in the generated file as they are, whatever the node is like; without ours and without comments.
fn literal(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let (mut depth, mut is_ours) = (0_usize, false);
    for line in text.lines().map(str::trim) {
        if line == BEGIN || line == END {
            is_ours = line == BEGIN;
            continue;
        }
        let mut has_action = line.contains("}}");
        for action in line.split("{{").skip(1) {
            has_action = true;
            match action
                .trim_start_matches(['-', ' '])
                .split_whitespace()
                .next()
            {
                Some("if" | "range" | "with" | "define" | "block") => depth += 1,
                Some(word) if word.trim_end_matches(['-', '}']) == "end" => {
                    depth = depth.saturating_sub(1);
                }
                _ => {}
            }
        }
        if !has_action && depth == 0 && !is_ours && !line.is_empty() && !line.starts_with('#') {
            lines.push(line);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const RENDERED: &str = "version = 3\n[debug]\n  level = \"info\"\n";

    fn pending(text: &str) -> Option<PendingTemplate> {
        PendingTemplate::of("/t".into(), text, RENDERED)
    }

    #[test]
    fn what_the_generated_file_has_is_read() {
        for text in [
            "{{ template \"base\" . }}\n",
            "{{ template \"base\" . }}\n# a comment\n[debug]\nlevel = \"info\"\n",
            "version = 3\n{{- if .IsRunningInUserNS }}\nother = 1\n{{- end }}\n[debug]\n",
            "{{ template \"base\" . }}\n# gpusetup: begin\n[plugins.x]\n# gpusetup: end\n",
        ] {
            assert_eq!(pending(text), None, "{text}");
        }
    }

    #[test]
    fn what_it_lacks_is_not_read_yet() {
        let table =
            "[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.\"nvidia\".options]\n";
        let with_base = pending(&format!("{{{{- template \"base\" . -}}}}\n{table}")).unwrap();
        assert!(with_base.has_base);
        assert_eq!(with_base.runtimes, ["nvidia"]);
        let bare = pending("version = 3\n[plugins.y]\n").unwrap();
        assert!(!bare.has_base && bare.runtimes.is_empty());
        // An action in a comment is carried out, and so is no sign of a line of TOML.
        assert!(!pending("# no base here\nnew = 1\n").unwrap().has_base);
    }
}
