//! Which distribution this is, and whether it is one we act on.

use serde::{Deserialize, Serialize};

use crate::root::Root;

const TABLE: &str = include_str!("../distros.toml");

/// The distribution, from os-release(5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Distro {
    /// `ID`, `linux` where it says none.
    pub id: String,
    /// `VERSION_ID`; testing and rolling releases have none.
    pub version_id: Option<String>,
    /// `PRETTY_NAME`.
    pub pretty_name: String,
    /// `ID_LIKE`, nearest first.
    pub id_like: Vec<String>,
    /// `None`: we act on it. Else why not, in words for the user.
    pub unsupported: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    distro: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: String,
    supported: bool,
    #[serde(default)]
    reason: Option<String>,
    #[allow(dead_code, reason = "a column for people; the table's test reads it")]
    source: String,
}

fn table() -> Table {
    toml::from_str(TABLE).expect("distros.toml is read whole by this module's test")
}

/// Reads `/etc/os-release`, or `/usr/lib/os-release` where that is missing.
pub fn detect(root: &Root) -> Distro {
    let text = root
        .read_to_string("/etc/os-release")
        .or_else(|_| root.read_to_string("/usr/lib/os-release"))
        .unwrap_or_default();
    from_os_release(&text)
}

fn from_os_release(text: &str) -> Distro {
    let field = |key: &str| {
        text.lines()
            .filter_map(|l| l.trim_start().strip_prefix(key)?.strip_prefix('='))
            .map(unquoted)
            .rfind(|v| !v.is_empty())
    };
    let id = field("ID").unwrap_or_else(|| "linux".into());
    let id_like: Vec<String> = field("ID_LIKE")
        .map(|l| l.split_whitespace().map(str::to_owned).collect())
        .unwrap_or_default();
    let rows = table().distro;
    let row = std::iter::once(&id)
        .chain(&id_like)
        .find_map(|id| rows.iter().find(|r| r.id == *id));
    let unsupported = match row {
        Some(row) if row.supported => None,
        Some(row) => row.reason.clone(),
        None => Some(format!("{id} is not in the table of known distributions")),
    };
    Distro {
        pretty_name: field("PRETTY_NAME").unwrap_or_else(|| id.clone()),
        version_id: field("VERSION_ID"),
        id,
        id_like,
        unsupported,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table_is_sound() {
        for row in table().distro {
            assert!(row.supported != row.reason.is_some(), "{}", row.id);
            assert!(!row.source.is_empty(), "{}", row.id);
        }
    }

    #[test]
    fn derivatives_follow_what_they_are_like() {
        let mint = from_os_release(
            "NAME=\"Linux Mint\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_ID=\"22\"\n",
        );
        assert_eq!(mint.unsupported, None);
        let rocky = from_os_release(
            "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nPRETTY_NAME=\"Rocky Linux 9.4\"\n",
        );
        assert!(rocky.unsupported.unwrap().contains("Red Hat"));
        let odd = from_os_release("ID=odd");
        assert!(odd.unsupported.unwrap().contains("odd"));
    }

    #[test]
    fn debian_sid_has_no_version() {
        let sid = from_os_release("PRETTY_NAME=\"Debian GNU/Linux forky/sid\"\nID=debian\n");
        assert_eq!((sid.id.as_str(), sid.version_id), ("debian", None));
        assert_eq!(sid.pretty_name, "Debian GNU/Linux forky/sid");
    }

    #[test]
    fn odd_files_do_not_panic() {
        for text in ["", "=", "ID", "ID=\"", "ID='\\", "ID=\\"] {
            from_os_release(text);
        }
    }
}
