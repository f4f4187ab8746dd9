//! Finds the data directory of k3s and rke2, which can be moved in four ways.

use std::path::{Path, PathBuf};

use super::kind::KubernetesDistribution;
use crate::host::Host;
use crate::host::systemd_unit::Unit;

/// The data directory: set by a flag, by a variable, by its configuration file, or the default.
pub fn data_dir(host: &Host, kind: &KubernetesDistribution) -> PathBuf {
    let root = host.root();
    let absolute = |v: String| Some(v).filter(|v| v.starts_with('/'));
    let by_unit = |name: &&str| {
        let unit = Unit::read(host, &format!("{name}.service"));
        let flag = unit.flag("--data-dir").and_then(absolute);
        // Other commands in a unit may have a -d too.
        let is_data = |dir: &String| root.exists(Path::new(dir).join("agent"));
        flag.or_else(|| unit.flag("-d").and_then(absolute).filter(is_data))
            .or_else(|| unit.environment(kind.data_variable))
            .or_else(|| {
                let file = format!("/etc/systemd/system/{name}.service.env");
                value(&host.lossy_text(Path::new(&file))?, kind.data_variable, '=')
            })
    };
    let by_file = || {
        let base = Path::new("/etc/rancher").join(kind.name);
        let more = base.join("config.yaml.d");
        let mut names = root.read_dir(&more).unwrap_or_default();
        names.sort();
        let mut paths = vec![base.join("config.yaml")];
        paths.extend(names.into_iter().map(|n| more.join(n)));
        // The last file that sets it wins.
        let texts = paths.iter().rev().filter_map(|p| host.lossy_text(p));
        texts.into_iter().find_map(|t| value(&t, "data-dir", ':'))
    };
    kind.units
        .iter()
        .find_map(by_unit)
        .or_else(by_file)
        .map_or_else(
            || Path::new("/var/lib/rancher").join(kind.name),
            PathBuf::from,
        )
}

/// The value of a key in lines of `key: value` or `key=value`.
fn value(text: &str, key: &str, sign: char) -> Option<String> {
    let line = |l: &str| {
        let (name, value) = l.split_once(sign)?;
        let value = value.split(" #").next()?.trim().trim_matches(['"', '\'']);
        (name.trim().trim_matches(['"', '\'']) == key && !value.is_empty())
            .then(|| value.to_owned())
    };
    text.lines().rev().find_map(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_in_lines() {
        let yaml = "token: x\n#data-dir: /no\ndata-dir: \"/srv/k3s\" # big\n";
        assert_eq!(value(yaml, "data-dir", ':'), Some("/srv/k3s".into()));
        assert_eq!(
            value("K3S_DATA_DIR='/d'\n", "K3S_DATA_DIR", '='),
            Some("/d".into())
        );
        assert_eq!(value("data-dir:\n", "data-dir", ':'), None);
    }
}
