//! Tests damaged receipts and journals: bytes are changed, and the file is cut, lengthened and
//! shuffled. Each command must act as with the intact file, or report the damage and write nothing.
//! Needs root and strace; says so and passes if one is missing.
//!
//! By default a share of the bytes is tried, one in each field, with undo and with one other
//! command in turn. `GPUSETUP_DAMAGE=all cargo test -p gpusetup --test damaged` tries every byte of
//! every kind of file; a number instead of `all` tries that many of each.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::Value;
use skips::Need;

use fixture::engines::{ENGINES, Engine, copy};
use fixture::walk;

const STATE: &str = "var/lib/gpusetup";
const RECEIPT: &str = "receipt.json";
const JOURNAL: &str = "journal.json";

const UNDO: &[&str] = &["undo", "--yes"];
/// Commands that may read such a file. Undo is first: it could write a damaged text.
const COMMANDS: &[&[&str]] = &[
    UNDO,
    &["plan"],
    &["install", "--yes"],
    &["recover"],
    &["detect"],
    &["doctor", "--json"],
    &["undo", "--dry-run"],
    &["cdi", "refresh"],
];
/// How many bytes of each file are tried, unless all are asked for.
const SHARE: usize = 10;

/// A tree with a file to damage.
struct Case {
    name: String,
    tree: tempfile::TempDir,
    file: &'static str,
    /// The result of each command with the intact file.
    intact: Vec<(Option<i32>, Vec<u8>, Files)>,
    damages: Vec<(String, Vec<u8>)>,
}

/// Everything about files: type and mode, owner, size, inode, times, content.
type Files = BTreeMap<PathBuf, (u32, String, String)>;

/// All files except the lock. Times and inodes are included if nothing may have been written at
/// all.
fn files(root: &Path, with_times: bool) -> Files {
    let mut files = BTreeMap::new();
    walk(root, &mut files);
    files
        .into_iter()
        .map(|(path, (mode, content))| {
            let m = path.symlink_metadata().unwrap();
            let mut looks = format!("{}:{}", m.uid(), m.gid());
            if with_times {
                looks += &format!(
                    " {} {}.{} {}.{}",
                    m.ino(),
                    m.mtime(),
                    m.mtime_nsec(),
                    m.ctime(),
                    m.ctime_nsec()
                );
            }
            let path = path.strip_prefix(root).unwrap().to_owned();
            (path, (mode, looks, content))
        })
        .filter(|(path, _)| path != Path::new("run/gpusetup.lock"))
        .collect()
}

/// All files except the receipt and the journal.
fn of_the_host(root: &Path) -> Files {
    let mut files = files(root, false);
    files.retain(|path, _| !path.starts_with(STATE));
    files
}

fn gpusetup(root: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpusetup"));
    command.arg("--root").arg(root).args(args);
    command.output().unwrap()
}

impl Case {
    fn new(
        name: String,
        tree: tempfile::TempDir,
        file: &'static str,
        share: Option<usize>,
    ) -> Self {
        let text = fs::read(tree.path().join(STATE).join(file)).unwrap();
        let intact = COMMANDS
            .iter()
            .map(|command| {
                let tree = copy(tree.path());
                let out = gpusetup(tree.path(), command);
                (out.status.code(), out.stdout, of_the_host(tree.path()))
            })
            .collect();
        let mut damages = shuffled(&text);
        damages.extend(flips(&text, share));
        Self {
            name,
            tree,
            file,
            intact,
            damages,
        }
    }

    /// The cases of an engine: a receipt and one kind of journal, or all kinds if a share is given.
    fn of(n: usize, engine: &Engine, share: Option<usize>) -> Vec<Self> {
        let program = Path::new(env!("CARGO_BIN_EXE_gpusetup"));
        let install = engine.install();
        [
            ("receipt", engine.installed(), RECEIPT),
            (
                "journal, half-way",
                engine.killed(program, &install, Some(2)),
                JOURNAL,
            ),
            (
                "journal, done",
                engine.killed(program, &install, None),
                JOURNAL,
            ),
            (
                "journal of an undo",
                engine.killed(program, UNDO, Some(2)),
                JOURNAL,
            ),
        ]
        .into_iter()
        .enumerate()
        .filter(|(kind, _)| share.is_some() || *kind == 0 || *kind == 1 + n % 3)
        .map(|(_, case)| case)
        // An undo that only removes files has its journal on disk after the first of two renames.
        .filter(|(_, tree, file)| tree.path().join(STATE).join(file).exists())
        .map(|(what, tree, file)| {
            // The lock already exists, so that taking it changes no directory.
            fs::write(tree.path().join("run/gpusetup.lock"), "").unwrap();
            Self::new(format!("{}, {what}", engine.name), tree, file, share)
        })
        .collect()
    }

    /// What gpusetup did wrong with each damaged file.
    fn losses(&self) -> (usize, Vec<String>) {
        let mut tree = copy(self.tree.path());
        let mut losses = Vec::new();
        let mut tried = 0;
        for (n, (what, bytes)) in self.damages.iter().enumerate() {
            for (c, command) in COMMANDS.iter().enumerate() {
                // Undo with every damage, and one of the other commands in turn.
                if c != 0 && c != 1 + n % (COMMANDS.len() - 1) {
                    continue;
                }
                tried += 1;
                fs::write(tree.path().join(STATE).join(self.file), bytes).unwrap();
                let before = files(tree.path(), true);
                let out = gpusetup(tree.path(), command);
                let is_untouched = files(tree.path(), true) == before;
                if let Err(why) = self.judged(c, &out, is_untouched, tree.path()) {
                    let stderr = String::from_utf8_lossy(&out.stderr);
                    losses.push(format!(
                        "{}, {what}, {}: {why}: {stderr}",
                        self.name,
                        command.join(" ")
                    ));
                }
                if !is_untouched {
                    tree = copy(self.tree.path());
                }
            }
        }
        (tried, losses)
    }

    fn judged(&self, c: usize, out: &Output, untouched: bool, root: &Path) -> Result<(), String> {
        let code = out.status.code();
        let stderr = String::from_utf8_lossy(&out.stderr);
        let (intact, shown, host) = &self.intact[c];
        let command = COMMANDS[c][0];
        // plan and detect go on with a journal that cannot be used, and say so.
        let goes_on = self.file == "journal.json"
            && matches!(command, "plan" | "detect")
            && code == *intact
            && out.stdout != *shown;
        if untouched && (goes_on || matches!(code, Some(1 | 3))) {
            let shown = String::from_utf8_lossy(&out.stdout);
            let is_said = stderr.contains(self.file) || shown.contains(self.file);
            let has_way_out = stderr.contains("backup") || shown.contains("backup");
            let has_way_out = has_way_out || stderr.contains("that version again");
            let has_way_out = has_way_out || shown.contains("that version again");
            return match (is_said, has_way_out) {
                (true, true) => Ok(()),
                (false, _) => Err("does not name the file".into()),
                (_, false) => Err("has no way out".into()),
            };
        }
        if command == "doctor" && code == Some(2) && untouched {
            let stdout = String::from_utf8_lossy(&out.stdout);
            if stdout.contains("receipt-broken") {
                return Ok(());
            }
        }
        if code != *intact {
            return Err(format!("exit {code:?}, with the whole file {intact:?}"));
        }
        if of_the_host(root) != *host {
            return Err(format!("exit {code:?}, and another host than it should be"));
        }
        // A journal that cannot be used is named, with what to do.
        let text = String::from_utf8_lossy(&out.stdout);
        let has_way_out = text.contains("backup") || text.contains("that version again");
        let is_named = text.contains(self.file) && has_way_out;
        if matches!(command, "plan" | "detect") && out.stdout != *shown && !is_named {
            return Err("says something else".into());
        }
        Ok(())
    }
}

/// Flips one bit in each byte; the bit differs from byte to byte.
fn flips(text: &[u8], share: Option<usize>) -> Vec<(String, Vec<u8>)> {
    let flip = |at: usize| {
        let mut bytes = text.to_vec();
        bytes[at] ^= [0x01, 0x20, 0x80, 0x04][at % 4];
        (format!("byte {at}"), bytes)
    };
    if let Some(share) = share {
        let stride = text.len().div_ceil(share);
        return (0..text.len()).step_by(stride).map(flip).collect();
    }
    // In each line, the middle of its key and the middle of its value.
    let mut places = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive(|b| *b == b'\n') {
        let colon = line.windows(2).position(|w| w == b": ");
        let indent = line.iter().take_while(|b| **b == b' ').count();
        places.push(start + usize::midpoint(indent, colon.unwrap_or(line.len())));
        places.extend(colon.map(|c| start + usize::midpoint(c, line.len())));
        start += line.len();
    }
    let stride = places.len().div_ceil(SHARE) | 1;
    places.into_iter().step_by(stride).map(flip).collect()
}

/// The file cut, lengthened, and with its entries reordered.
fn shuffled(text: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = [0, 1, text.len() / 3, text.len() - 3, text.len() - 1]
        .into_iter()
        .map(|n| (format!("cut at {n}"), text[..n].to_vec()))
        .collect();
    for more in ["\n", "x", "\0", "{}"] {
        let bytes = [text, more.as_bytes()].concat();
        all.push((format!("{more:?} behind it"), bytes));
    }
    all.push(("twice".into(), [text, text].concat()));
    let whole: Value = serde_json::from_slice(text).unwrap();
    let mut edited = |what: &str, edit: &dyn Fn(&mut Value)| {
        let mut value = whole.clone();
        edit(&mut value);
        if value != whole {
            let bytes = serde_json::to_vec_pretty(&value).unwrap();
            all.push((what.to_owned(), bytes));
        }
    };
    let entries = |v: &mut Value, f: &dyn Fn(&mut Vec<Value>)| {
        f(v["content"]["changes"].as_array_mut().unwrap());
    };
    edited("first entry twice", &|v| {
        entries(v, &|e| e.push(e[0].clone()));
    });
    edited("first entry gone", &|v| entries(v, &|e| drop(e.remove(0))));
    edited("all entries gone", &|v| entries(v, &|e| e.clear()));
    edited("entries in reverse", &|v| entries(v, &|e| e.reverse()));
    edited("texts of two entries swapped", &|v| {
        entries(v, &|e| {
            let last = e.len() - 1;
            let text = e[0]["before"].take();
            e[0]["before"] = e[last]["before"].take();
            e[last]["before"] = text;
        });
    });
    edited("a text changed with its checksum gone", &|v| {
        entries(v, &|e| {
            e[0]["before"] = "not what it was\n".into();
            e[0].as_object_mut().unwrap().remove("before-sha256");
        });
    });
    for field in ["schema", "sha256", "content", "changes", "version"] {
        edited(&format!("no {field}"), &|v| {
            v.as_object_mut().unwrap().remove(field);
        });
    }
    for field in ["changes", "directories", "attributes", "commit", "services"] {
        edited(&format!("no {field} in its content"), &|v| {
            v["content"].as_object_mut().unwrap().remove(field);
        });
    }
    for schema in [0, 1, 3, 200] {
        edited(&format!("schema {schema}"), &|v| {
            v["schema"] = schema.into();
        });
    }
    edited("the content alone", &|v| *v = v["content"].clone());
    all
}

#[test]
fn a_damaged_receipt_or_journal_is_reported_and_nothing_is_written() {
    if !skips::has(&[Need::Root, Need::Strace]) {
        return;
    }
    let started = Instant::now();
    let share = std::env::var("GPUSETUP_DAMAGE").ok();
    let share = share.map(|n| n.parse().unwrap_or(usize::MAX));
    let cases: Vec<Case> = std::thread::scope(|scope| {
        let made: Vec<_> = ENGINES
            .iter()
            .enumerate()
            .map(|(n, e)| scope.spawn(move || Case::of(n, e, share)))
            .collect();
        made.into_iter().flat_map(|m| m.join().unwrap()).collect()
    });
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut tried, mut losses) = (0, Vec::new());
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (n, lost) = case.losses();
            tried += n;
            losses.extend(lost);
        }
        (tried, losses)
    };
    let (tried, losses) = std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let ended = running.into_iter().map(|t| t.join().unwrap());
        ended.fold((0, Vec::new()), |(n, mut all), (m, lost)| {
            all.extend(lost);
            (n + m, all)
        })
    });
    println!(
        "{tried} runs over {} files in {} s, {} losses",
        cases.len(),
        started.elapsed().as_secs(),
        losses.len()
    );
    assert!(
        losses.is_empty(),
        "{} losses:\n{}",
        losses.len(),
        losses.join("\n")
    );
}

/// A receipt must not be accepted as a journal, although it has all the fields of one.
#[test]
fn a_journal_in_place_of_the_receipt_is_refused() {
    let tree = fixture::Tree::new("20.10.24", "1.6.20");
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    let state = tree.path(STATE);
    fs::copy(state.join(RECEIPT), state.join(JOURNAL)).unwrap();
    let before = tree.state();
    for (command, code) in [("recover", 3), ("undo", 3), ("install", 3)] {
        let args: &[&str] = if command == "recover" {
            &["recover"]
        } else {
            &[command, "--yes"]
        };
        let out = tree.run(args);
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{command}: {stderr}");
        assert!(stderr.contains("journal.json is damaged"), "{stderr}");
        assert_eq!(tree.state(), before);
    }
}

/// The message names the entry by its number and its file, and the part that is damaged.
#[test]
fn a_damaged_entry_is_named() {
    let tree = fixture::Tree::new("20.10.24", "1.6.20");
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    let receipt = format!("{STATE}/{RECEIPT}");
    let text = tree.read(&receipt);
    let at = text.find("max-size").unwrap();
    let damaged = format!("{}l{}", &text[..at], &text[at + 1..]);
    tree.write(&receipt, &damaged);
    let out = tree.run(&["undo", "--yes", "--json"]);
    let document: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(1));
    let msg = document["msg"].as_str().unwrap();
    assert!(
        msg.contains("/var/lib/gpusetup/receipt.json is damaged"),
        "{msg}"
    );
    assert!(
        msg.contains("/etc/docker/daemon.json: the text before it"),
        "{msg}"
    );
    assert!(
        document["fix"].as_str().unwrap().contains("backup"),
        "{document}"
    );
}

/// If something else is in the file's place, it must not be reported as missing.
#[test]
fn another_kind_of_file_in_its_place_is_reported() {
    type Way = (&'static str, fn(&Path));
    let ways: [Way; 6] = [
        ("a link to nothing", |p| {
            symlink("/disk/receipt.json", p).unwrap();
        }),
        ("a link to itself", |p| {
            symlink(p.file_name().unwrap(), p).unwrap();
        }),
        ("a directory", |p| fs::create_dir(p).unwrap()),
        ("a socket", |p| drop(UnixListener::bind(p).unwrap())),
        ("its directory is a link to nothing", |p| {
            let dir = p.parent().unwrap();
            fs::rename(dir, dir.with_extension("away")).unwrap();
            symlink("/disk/gpusetup", dir).unwrap();
        }),
        ("its directory is a file", |p| {
            let dir = p.parent().unwrap();
            fs::rename(dir, dir.with_extension("away")).unwrap();
            fs::write(dir, "").unwrap();
        }),
    ];
    for (name, file) in [("receipt", RECEIPT), ("journal", JOURNAL)] {
        for (what, put) in ways {
            let tree = fixture::Tree::new("20.10.24", "1.6.20");
            assert_eq!(tree.code(&["install", "--yes"]), 0);
            let path = tree.path(STATE).join(file);
            if path.exists() {
                fs::remove_file(&path).unwrap();
            }
            put(&path);
            let before = tree.state();
            for args in [&["undo", "--yes"][..], &["install", "--yes"]] {
                let out = tree.run(args);
                let stderr = String::from_utf8_lossy(&out.stderr);
                let code = out.status.code();
                assert!(
                    matches!(code, Some(1 | 3)),
                    "{name}, {what}: {code:?} {stderr}"
                );
                assert!(
                    stderr.contains("cannot be read: "),
                    "{name}, {what}: {stderr}"
                );
                assert!(stderr.contains("from a backup"), "{name}, {what}: {stderr}");
                assert_eq!(tree.state(), before, "{name}, {what}");
            }
        }
    }
}
