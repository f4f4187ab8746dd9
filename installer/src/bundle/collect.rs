//! Collects what goes into a bundle. Writes nothing; what cannot be read is noted and is not an
//! error.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use gpu_host::glob;
use serde::Deserialize;

use super::{Bundle, Done, Now, TextFile, topology};
use crate::doctor::{self, render};
use crate::host::{Host, timestamp};
use crate::model::change::Change;
use crate::render::status;
use crate::setup::gpu_files;
use crate::transaction::journal::Journal;
use crate::transaction::receipt::Receipt;

/// How many bytes are kept of a text: the beginning of a file, the end of a log.
const LIMIT: u64 = 128 << 10;
/// How many lines are kept of a unit's journal.
const LINES: &str = "300";
/// How long to wait for journalctl: on a slow disk it takes long.
const PATIENCE: Duration = Duration::from_secs(20);
/// Lines of interest in the kernel's log.
const KERNEL: &str = "NVRM|nvidia|Xid|nouveau|IOMMU|AER|out of memory";

/// bundle.toml: what is collected.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Sources {
    unit_dirs: Vec<PathBuf>,
    units: Vec<String>,
    files: Vec<PathBuf>,
    logs: Vec<PathBuf>,
}

/// Collects the bundle of a host. Its secrets are not masked yet.
pub fn collect(host: &Host) -> Bundle {
    let sources: Sources =
        toml::from_str(include_str!("../../bundle.toml")).expect("ours; a test reads it whole");
    let mut unread = Vec::new();
    let inventory = gpu_files::inventory(host)
        .map_err(|e| unread.push(format!("GPUs: {e}")))
        .ok();
    let detected = status::document_of(host)
        .map_err(|e| unread.push(format!("engines: {e}")))
        .unwrap_or_default();
    let topology = if host.is_live() {
        topology::find_live(host, inventory.as_ref())
    } else {
        topology::find(host.root(), inventory.as_ref())
    };
    let mut bundle = Bundle {
        schema: 1,
        version: env!("CARGO_PKG_VERSION").into(),
        made: timestamp::text(SystemTime::now()).unwrap_or_default(),
        host: detected,
        topology,
        changes: changes(host, &mut unread),
        doctor: render::document(&doctor::examine(host), false, &[]),
        files: files(host, &sources, &mut unread),
        logs: logs(host, &sources, &mut unread),
        unread,
    };
    bundle.unread.extend(host.root().trouble());
    bundle.unread.sort();
    bundle.unread.dedup();
    bundle
}

fn changes(host: &Host, unread: &mut Vec<String>) -> Vec<Done> {
    let mut done = Vec::new();
    let mut add = |changes: Vec<Change>, times: &BTreeMap<PathBuf, String>, unfinished: bool| {
        for change in changes {
            done.push(Done {
                at: times.get(&change.path).cloned(),
                now: state_now(host, &change.path, change.after.as_deref()),
                written: text_written(host, &change.path),
                path: change.path.display().to_string(),
                why: change.why,
                before: change.before,
                after: change.after,
                unfinished,
            });
        }
    };
    match Receipt::load(host) {
        Ok(record) => {
            let record = record.unwrap_or_default();
            add(record.changes, &record.written, false);
        }
        Err(e) => unread.push(e.to_string()),
    }
    match Journal::load(host) {
        Ok(None) => {}
        Ok(Some(journal)) => add(journal.changes, &BTreeMap::new(), true),
        Err(e) => unread.push(e.to_string()),
    }
    // Timestamps in this form sort as text. Changes without one come first, those of a run that
    // has not ended come last.
    done.sort_by(|a, b| (a.unfinished, a.time()).cmp(&(b.unfinished, b.time())));
    done
}

fn text_written(host: &Host, path: &Path) -> Option<String> {
    let meta = host.root().symlink_metadata(path).ok()?;
    meta.modified().ok().and_then(timestamp::text)
}

fn state_now(host: &Host, path: &Path, after: Option<&str>) -> Now {
    let link = host.root().read_link(path).ok();
    let there = match link {
        Some(target) if Some(&*target.to_string_lossy()) == after => return Now::Ours,
        _ => host.text(path),
    };
    match (there, after) {
        (Err(_), _) => Now::Unread,
        (Ok(None), None) => Now::Ours,
        (Ok(None), Some(_)) => Now::Gone,
        (Ok(there), after) if there.as_deref() == after => Now::Ours,
        (Ok(_), _) => Now::Changed,
    }
}

fn files(host: &Host, sources: &Sources, unread: &mut Vec<String>) -> Vec<TextFile> {
    let mut patterns: Vec<PathBuf> = sources.files.clone();
    for unit in &sources.units {
        for dir in &sources.unit_dirs {
            patterns.push(dir.join(unit));
            patterns.push(dir.join(format!("{unit}.d/*")));
        }
    }
    if let Some(user) = host.user() {
        patterns.push(user.config.join("docker/daemon.json"));
        patterns.push(user.home.join(".docker/config.json"));
        patterns.push(user.config.join("cdi/*"));
        patterns.push(user.config.join("systemd/user/docker.service.d/*"));
    }
    // /lib is /usr/lib on most hosts, so that the same file can match twice.
    let mut real_paths = BTreeSet::new();
    let mut texts = Vec::new();
    for path in patterns.iter().flat_map(|p| glob::expand(host.root(), p)) {
        let real = host
            .root()
            .canonicalize(&path)
            .unwrap_or_else(|_| path.clone());
        if real_paths.insert(real) {
            texts.extend(part(host, &path, false, unread));
        }
    }
    texts
}

fn logs(host: &Host, sources: &Sources, unread: &mut Vec<String>) -> Vec<TextFile> {
    let patterns = sources.logs.iter();
    let mut texts: Vec<TextFile> = patterns
        .flat_map(|p| glob::expand(host.root(), p))
        .filter_map(|path| part(host, &path, true, unread))
        .collect();
    if !host.is_live() || !host.has_program("journalctl") {
        return texts;
    }
    let plain = [
        "--no-pager",
        "--no-hostname",
        "-q",
        "-o",
        "short-iso",
        "-n",
        LINES,
    ];
    let kernel = ["journalctl", "-k", "-g", KERNEL];
    let mut ask = |name: &str, which: &[&str]| {
        match host.run(&[which, &plain].concat(), PATIENCE) {
            // With -g, journalctl exits with 1 and prints nothing if no line matches.
            Ok(out) if out.has_succeeded() || out.stderr.trim().is_empty() => {
                if !out.stdout.trim().is_empty() {
                    texts.push(end(name, out.stdout));
                }
            }
            Ok(out) => unread.push(format!("journal of {name}: {}", out.last_line())),
            Err(e) => unread.push(format!("journal of {name}: {e}")),
        }
    };
    ask("kernel", &kernel);
    for unit in &sources.units {
        ask(unit, &["journalctl", "-u", unit]);
    }
    texts
}

/// A program's output, or only the end of it if it is too long.
fn end(name: &str, mut text: String) -> TextFile {
    let over = text
        .len()
        .saturating_sub(usize::try_from(LIMIT).unwrap_or(usize::MAX));
    let start = text.as_bytes()[over..].iter().position(|b| *b == b'\n');
    let cut = over > 0;
    if cut {
        text = text.split_off(over + start.map_or(0, |s| s + 1));
    }
    TextFile {
        name: name.to_owned(),
        content: text,
        cut,
    }
}

/// The beginning or the end of a file; `None` if it is not a plain file.
fn part(host: &Host, path: &Path, tail: bool, unread: &mut Vec<String>) -> Option<TextFile> {
    let read = || -> std::io::Result<(Vec<u8>, bool)> {
        let mut file = host.root().open_file(path)?;
        let length = file.metadata()?.len();
        let cut = length > LIMIT;
        if cut && tail {
            file.seek(SeekFrom::Start(length - LIMIT))?;
        }
        let mut bytes = Vec::new();
        file.take(LIMIT).read_to_end(&mut bytes)?;
        Ok((bytes, cut))
    };
    match read() {
        Ok((bytes, cut)) => {
            let content = whole_lines(&String::from_utf8_lossy(&bytes), cut, tail);
            if cut && content.trim().is_empty() {
                unread.push(format!(
                    "{}: left out, no line of it is whole in {} KiB",
                    path.display(),
                    LIMIT >> 10
                ));
            }
            Some(TextFile {
                name: path.to_string_lossy().into_owned(),
                content,
                cut,
            })
        }
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        // It is a directory, or a symbolic link that leads in a circle.
        Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::IsADirectory) => None,
        Err(e) => {
            unread.push(e.to_string());
            None
        }
    }
}

/// Drops a line that was cut in two: without its beginning, the mask may not see that it holds a
/// secret.
fn whole_lines(text: &str, cut: bool, tail: bool) -> String {
    match (cut, tail) {
        (false, _) => text,
        (true, true) => text.split_once('\n').map_or("", |(_, rest)| rest),
        (true, false) => text.rsplit_once('\n').map_or("", |(rest, _)| rest),
    }
    .to_owned()
}
