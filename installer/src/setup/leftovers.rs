//! Finds places that still name our programs once everything that gpusetup wrote is undone: settings of an
//! administrator or another tool in files that an engine reads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use super::references::search;
use super::references::words;
use crate::engines::engine::Engine;
use crate::error::Error;
use crate::host::Host;
use crate::host::local_files::LocalFiles;
use crate::model::change::{Change, MergeKind};
use crate::transaction::receipt::Receipt;

/// A place that still names one of our programs, or that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1, and what it names; or why the file could not be read.
    pub found: Result<(usize, &'static str), String>,
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.found {
            Ok((line, name)) => write!(f, "{path}, line {line}, names {name}"),
            Err(why) => write!(f, "{path} could not be looked at: {why}"),
        }
    }
}

/// The files that engines read on this host, including units and hooks, by pattern; and the files that a detected
/// engine reads instead. For a user, the files of the user's own engines.
pub fn files(host: &Host, engines: &[Box<dyn Engine>]) -> BTreeSet<PathBuf> {
    look(host, engines).map_or_else(|_| BTreeSet::new(), |(_, files, _)| files)
}

type Searched = (LocalFiles, BTreeSet<PathBuf>, Vec<Leftover>);

fn look(host: &Host, engines: &[Box<dyn Engine>]) -> Result<Searched, Error> {
    let root = host.root();
    let local = LocalFiles::open(root)
        .map_err(Error::file(root.path(), "look at"))?
        .wherever();
    let patterns = match host.user() {
        Some(user) => search::of_user(std::slice::from_ref(&user.config)),
        None => search::of_system(),
    };
    let (mut files, mut unseen) = (BTreeSet::new(), Vec::new());
    for (_, pattern) in patterns {
        let (paths, not_seen) = local.matching(&pattern);
        files.extend(paths);
        unseen.extend(not_seen.into_iter().map(|e| Leftover {
            path: e.path,
            found: Err(e.why),
        }));
    }
    let of_host = engines
        .iter()
        .filter(|e| e.is_of_user() == host.user().is_some());
    files.extend(of_host.flat_map(|e| e.reads()));
    let rendered: Vec<&Path> = engines.iter().filter_map(|e| e.rendered()).collect();
    files.retain(|path| !search::is_ours(path) && !rendered.contains(&path.as_path()));
    Ok((local, files, unseen))
}

/// The places that still name our programs once these changes are made.
pub fn after(
    host: &Host,
    engines: &[Box<dyn Engine>],
    changes: &[Change],
) -> Result<Vec<Leftover>, Error> {
    let (local, mut files, mut left) = look(host, engines)?;
    let is_text = |c: &&Change| c.kind != MergeKind::Link;
    let texts: BTreeMap<&Path, Option<&str>> = changes
        .iter()
        .filter(is_text)
        .map(|c| (c.path.as_path(), c.after.as_deref()))
        .collect();
    files.extend(texts.keys().map(|path| path.to_path_buf()));
    files.retain(|path| !is_generated(changes, path));
    for path in files {
        let text = match texts.get(path.as_path()) {
            Some(text) => Ok(text.map(str::to_owned)),
            None => match engines.iter().find_map(|e| e.text_of(&path)) {
                Some(text) => Ok(Some(text.to_owned())),
                None => local.text(&path),
            },
        };
        let excerpt = match text {
            Ok(text) => text.as_deref().and_then(first).map(Ok),
            Err(e) => Some(Err(e.why)),
        };
        left.extend(excerpt.map(|found| Leftover { path, found }));
    }
    Ok(left)
}

/// Files that gpusetup wrote and that still name our programs, although no engine on this host reads them because its
/// package was removed.
pub fn without_engine(host: &Host, receipt: &Receipt, engines: &[Box<dyn Engine>]) -> Vec<String> {
    let is_engines = |c: &&Change| match &c.kind {
        MergeKind::Generated | MergeKind::Link => false,
        _ => c.after.is_some() && c.path != Path::new(gpu_inject::policy::PATH),
    };
    let changes = receipt.changes.iter().filter(is_engines);
    let orphans = changes.filter(|c| !engines.iter().any(|e| e.owns(&c.path)));
    orphans
        .filter_map(|c| {
            let (line, name) = first(&host.text(&c.path).ok().flatten()?)?;
            let path = c.path.display();
            Some(format!(
                "{path}, line {line}, names {name}, and the engine that reads it is not installed"
            ))
        })
        .collect()
}

/// Our own CDI spec, which the package's service writes whether or not engines are set up.
fn is_generated(changes: &[Change], path: &Path) -> bool {
    let mut of_file = changes.iter().filter(|c| c.path == path);
    of_file.any(|c| c.kind == MergeKind::Generated)
}

fn first(text: &str) -> Option<(usize, &'static str)> {
    let lines = text.lines().enumerate();
    let mut named =
        lines.filter_map(|(n, line)| Some((n + 1, words::first(line, words::PROGRAMS)?)));
    named.next()
}
