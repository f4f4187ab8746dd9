//! Finds the data directory of k3s and rke2, which can be moved in four ways, whether they use their own containerd, and
//! the default runtime that they give it.

use std::path::{Path, PathBuf};

use super::kind::{KubernetesDistribution, SOCKET};
use crate::host::Host;
use crate::host::start_flags::StartFlags;

/// The data directory: set by a flag, by a variable, by its configuration file, or the default.
pub fn data_dir(host: &Host, kind: &KubernetesDistribution) -> PathBuf {
    // Other commands in a unit may have a -d too.
    let is_data =
        |dir: &String| dir.starts_with('/') && host.root().exists(Path::new(dir).join("agent"));
    let short = || by_unit(host, kind, "d", "").filter(is_data);
    by_unit(host, kind, "data-dir", kind.data_variable)
        .filter(|dir| dir.starts_with('/'))
        .or_else(short)
        .or_else(|| by_file(host, kind, "data-dir"))
        .map_or_else(
            || Path::new("/var/lib/rancher").join(kind.name),
            PathBuf::from,
        )
}

/// Where another container runtime listens that it is told to use instead of its own containerd.
pub fn other_runtime(host: &Host, kind: &KubernetesDistribution) -> Option<String> {
    const KEY: &str = "container-runtime-endpoint";
    let endpoint = by_unit(host, kind, KEY, "").or_else(|| by_file(host, kind, KEY))?;
    // Its own, named in full.
    (!endpoint.ends_with(SOCKET)).then_some(endpoint)
}

/// The default runtime that it is told; it puts that into its generated file at the next start.
pub fn default_runtime(host: &Host, kind: &KubernetesDistribution) -> Option<String> {
    const KEY: &str = "default-runtime";
    by_unit(host, kind, KEY, "").or_else(|| by_file(host, kind, KEY))
}

fn by_unit(
    host: &Host,
    kind: &KubernetesDistribution,
    flag: &str,
    variable: &str,
) -> Option<String> {
    kind.units.iter().find_map(|name| {
        let flags = StartFlags::read(host, &format!("{name}.service"));
        let given = flags.get(&[flag], variable).map(|given| given.value);
        given.or_else(|| {
            // The install script writes this file, whether or not the unit names it.
            let file = format!("/etc/systemd/system/{name}.service.env");
            let text = host.lossy_text(Path::new(&file))?;
            value(&text, variable, '=')
        })
    })
}

fn by_file(host: &Host, kind: &KubernetesDistribution, key: &str) -> Option<String> {
    let base = Path::new("/etc/rancher").join(kind.name);
    let more = base.join("config.yaml.d");
    let mut names = host.root().read_dir(&more).unwrap_or_default();
    names.sort();
    let mut paths = vec![base.join("config.yaml")];
    paths.extend(names.into_iter().map(|n| more.join(n)));
    // The last file that sets it wins.
    let mut texts = paths.iter().rev().filter_map(|p| host.lossy_text(p));
    texts.find_map(|t| value(&t, key, ':'))
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
