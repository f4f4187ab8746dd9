//! Checks whether an engine can read our CDI spec: which directories it looks in, and which spec
//! versions it knows.

use std::path::Path;

use gpu_inject::generate::SPEC_PATH;
use serde::Deserialize;

use crate::engines::engine::major_minor;
use crate::host::Host;

/// The lowest version of our specs: device names that begin with a digit are allowed only from this
/// version on (CDI SPEC.md, "Version History").
const OURS: &str = "0.5.0";

/// The latest version of CDI specs that an engine reads, from one of its versions on.
#[derive(Debug, Deserialize)]
struct Reads {
    engine: String,
    from: String,
    spec: String,
    #[allow(dead_code, reason = "for people, and checked by the test")]
    source: String,
}

#[derive(Deserialize)]
struct VersionTable {
    reads: Vec<Reads>,
}

fn table() -> Vec<Reads> {
    let text = include_str!("../../cdi-versions.toml");
    let table: VersionTable = toml::from_str(text).expect("a test reads this very text");
    table.reads
}

fn number(version: &str) -> Vec<u32> {
    let parts = version.split('.');
    parts.map(|n| n.parse().unwrap_or(0)).collect()
}

/// A warning if the engine refuses our spec because of its version.
pub fn too_new(host: &Host, engine: &str, version: Option<(u32, u32)>) -> Option<String> {
    let version = version?;
    let spec = spec_version(host);
    let rows: Vec<Reads> = table().into_iter().filter(|r| r.engine == engine).collect();
    let reads = rows.iter().rfind(|r| major_minor(&r.from) <= version)?;
    if number(&reads.spec) >= number(&spec) {
        return None;
    }
    let needed = rows.iter().find(|r| number(&r.spec) >= number(&spec))?;
    Some(format!(
        "{engine} {}.{} reads CDI specs up to {} and refuses ours, which is {spec}: {engine} {} reads it",
        version.0, version.1, reads.spec, needed.from
    ))
}

/// The version of the spec that exists, or else of the one that will be written.
fn spec_version(host: &Host) -> String {
    let text = host.lossy_text(Path::new(SPEC_PATH)).unwrap_or_default();
    let version = text.lines().find_map(|l| l.strip_prefix("cdiVersion:"));
    version
        .map_or(OURS, |v| v.trim().trim_matches(['"', '\'']))
        .to_owned()
}

/// The part that every such warning contains.
pub const LEAVES_OUT: &str = "does not find the GPUs' CDI spec";

/// A warning if the spec directories that a file lists do not include ours.
pub fn leaves_out(path: &Path, key: &str, dirs: &[&str], engine: &str) -> Option<String> {
    let ours = Path::new(SPEC_PATH).parent()?;
    // /var/run is a link to /run.
    let is_ours = |dir: &&&str| {
        let dir = Path::new(dir);
        dir == ours || dir == Path::new("/run/cdi")
    };
    if dirs.iter().any(|d| is_ours(&d)) {
        return None;
    }
    Some(format!(
        "{}: {key} leaves out {}, so {engine} {LEAVES_OUT}: add it there",
        path.display(),
        ours.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        let rows = table();
        for row in &rows {
            assert!(!row.source.is_empty(), "{row:?}");
            assert_ne!(major_minor(&row.from), (0, 0), "{row:?}");
            assert_eq!(number(&row.spec).len(), 3, "{row:?}");
        }
        for pair in rows.windows(2).filter(|p| p[0].engine == p[1].engine) {
            assert!(major_minor(&pair[0].from) < major_minor(&pair[1].from));
            assert!(number(&pair[0].spec) < number(&pair[1].spec));
        }
    }

    #[test]
    fn an_engine_that_refuses_the_spec_is_reported() {
        let tree = tempfile::tempdir().unwrap();
        let host = Host::open(tree.path(), Path::new("/")).unwrap();
        let warning = |engine, version| too_new(&host, engine, Some(version));
        assert!(warning("podman", (4, 2)).unwrap().contains("podman 4.3"));
        assert_eq!(warning("podman", (4, 3)), None);
        assert_eq!(warning("podman", (5, 9)), None);
        assert!(warning("crio", (1, 24)).unwrap().contains("0.3.0"));
        assert_eq!(warning("crio", (1, 25)), None);
        assert_eq!(too_new(&host, "podman", None), None);
        let dir = tree.path().join("var/run/cdi");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("nvidia.yaml"), "---\ncdiVersion: \"0.7.0\"\n").unwrap();
        assert!(warning("podman", (4, 3)).unwrap().contains("podman 5.1"));
    }
}
