//! What a systemd unit and its drop-ins say, as far as it concerns an engine.

use std::path::{Path, PathBuf};

use crate::host::Host;

/// Unit directories, the first with the file wins (systemd.unit(5), "Unit File Load Path").
const DIRS: [&str; 4] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// A unit: its file, its drop-ins, and the environment files of Debian's engine packages.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    texts: Vec<(PathBuf, String)>,
}

impl Unit {
    /// Reads the unit of that name; empty where there is none.
    pub fn read(host: &Host, name: &str) -> Self {
        let root = host.root();
        let mut paths: Vec<PathBuf> = DIRS
            .iter()
            .map(|dir| Path::new(dir).join(name))
            .find(|p| root.exists(p))
            .into_iter()
            .collect();
        let mut drop_ins = Vec::new();
        for dir in DIRS {
            let dir = Path::new(dir).join(format!("{name}.d"));
            let names = root.read_dir(&dir).unwrap_or_default();
            drop_ins.extend(
                names
                    .iter()
                    .filter(|n| Path::new(n).extension().is_some_and(|e| e == "conf"))
                    .map(|n| dir.join(n)),
            );
        }
        drop_ins.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
        // /lib is a link to /usr/lib on merged systems.
        drop_ins.dedup_by(|a, b| a.file_name() == b.file_name());
        paths.extend(drop_ins);
        paths.push(Path::new("/etc/default").join(name.trim_end_matches(".service")));
        let texts = paths
            .into_iter()
            .filter_map(|p| root.read_to_string(&p).ok().map(|t| (p, t)));
        Self {
            texts: texts.collect(),
        }
    }

    fn words(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.texts.iter().flat_map(|(path, text)| {
            text.lines()
                .filter(|l| !l.trim_start().starts_with(['#', ';']))
                .flat_map(|l| l.split([' ', '\t', '"', '\'']))
                .map(move |word| (path.as_path(), word))
        })
    }

    /// The value of a flag on the command line: `--flag=value` or `--flag value`.
    pub fn flag(&self, name: &str) -> Option<String> {
        let mut words = self.words().skip_while(|(_, w)| {
            *w != name && w.strip_prefix(name).is_none_or(|r| !r.starts_with('='))
        });
        let (_, word) = words.next()?;
        match word.split_once('=') {
            Some((_, value)) => Some(value.to_owned()),
            None => words.next().map(|(_, value)| value.to_owned()),
        }
    }

    /// The file that has a flag.
    pub fn where_is(&self, flag: &str) -> Option<&Path> {
        self.words()
            .find(|(_, w)| *w == flag || w.strip_prefix(flag).is_some_and(|r| r.starts_with('=')))
            .map(|(path, _)| path)
    }

    /// The last value that `Environment=` gives a variable.
    pub fn environment(&self, name: &str) -> Option<String> {
        self.texts
            .iter()
            .flat_map(|(_, text)| text.lines())
            .filter_map(|l| l.trim().strip_prefix("Environment="))
            .flat_map(|l| l.split('"').flat_map(|part| part.split(' ')))
            .filter_map(|w| w.strip_prefix(name)?.strip_prefix('='))
            .next_back()
            .map(str::to_owned)
    }
}
