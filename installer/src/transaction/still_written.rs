//! Whether what a run has written is still there. Configuration management writes the same files, at any moment.

use serde_json::Value;

use crate::edit::meaning::TomlMeaning;
use crate::edit::{block, json};
use crate::error::Error;
use crate::host::Host;
use crate::model::change::{Change, MergeKind};
use crate::transaction::change_io;

/// The first of these changes whose part is gone from its file. What every boot makes anew is left out: its own service
/// looks after it.
pub fn first_lost<'a>(host: &Host, changes: &'a [Change]) -> Result<Option<&'a Change>, Error> {
    for change in changes {
        if matches!(change.kind, MergeKind::Generated | MergeKind::Link) {
            continue;
        }
        if !is_in(change, change_io::current(host, change)?.as_deref()) {
            return Ok(Some(change));
        }
    }
    Ok(None)
}

/// Whether what the change is for is in that text of its file, whatever else is.
pub fn is_in(change: &Change, current: Option<&str>) -> bool {
    if current == change.after.as_deref() {
        return true;
    }
    let (Some(after), Some(current)) = (&change.after, current) else {
        return false;
    };
    match &change.kind {
        MergeKind::Json { keys } => {
            let parsed = [after.as_str(), current].map(|text| json::parse(text).ok());
            let [Some(after), Some(current)]: [Option<Value>; 2] = parsed else {
                return false;
            };
            let is_same = |k: &Vec<String>| json::get(&after, k) == json::get(&current, k);
            keys.iter().all(is_same)
        }
        MergeKind::Toml { keys } => {
            let parsed = [after.as_str(), current].map(TomlMeaning::of_text);
            let [Some(after), Some(current)] = parsed else {
                return false;
            };
            keys.iter().all(|k| after.get(k) == current.get(k))
        }
        MergeKind::Block { begin, end } => {
            let ours = |text: &str| {
                let range = block::find(text, begin, end).ok()??;
                text.get(range).map(str::to_owned)
            };
            ours(after).is_some_and(|lines| ours(current) == Some(lines))
        }
        MergeKind::Own | MergeKind::Generated | MergeKind::Link => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(kind: MergeKind, before: &str, after: &str) -> Change {
        Change {
            path: "/f".into(),
            before: Some(before.into()),
            after: Some(after.into()),
            mode: 0o644,
            why: String::new(),
            kind,
        }
    }

    #[test]
    fn the_user_may_change_all_but_our_keys() {
        let keys = vec![vec!["runtimes".to_owned(), "nvidia".to_owned()]];
        let json = change(
            MergeKind::Json { keys: keys.clone() },
            "{}",
            r#"{"runtimes": {"nvidia": {"path": "/ours"}}}"#,
        );
        let other = r#"{"log-level":"debug","runtimes":{"nvidia":{"path":"/ours"},"x":{}}}"#;
        assert!(is_in(&json, Some(other)));
        assert!(!is_in(&json, Some("{}")) && !is_in(&json, None));
        assert!(!is_in(&json, Some("{")));
        assert!(!is_in(&json, Some(&other.replace("/ours", "/theirs"))));
        let toml = change(
            MergeKind::Toml { keys },
            "",
            "[runtimes.nvidia]\npath = '/ours'\n",
        );
        assert!(is_in(
            &toml,
            Some("x = 1\nruntimes.nvidia.path = \"/ours\"\n")
        ));
        assert!(!is_in(&toml, Some("x = 1\n")));
    }

    #[test]
    fn our_lines_and_our_files_are_there_whole() {
        let (begin, end) = ("# ours {".to_owned(), "# }".to_owned());
        let block = change(
            MergeKind::Block { begin, end },
            "a\n",
            "a\n# ours {\nx\n# }\n",
        );
        assert!(is_in(&block, Some("b\n# ours {\nx\n# }\nc\n")));
        assert!(!is_in(&block, Some("b\n# ours {\ny\n# }\n")));
        assert!(!is_in(&block, Some("a\n")));
        let own = change(MergeKind::Own, "", "ours\n");
        assert!(is_in(&own, Some("ours\n")) && !is_in(&own, Some("ours\nmore\n")));
    }
}
