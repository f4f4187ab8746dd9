//! Finds our settings by their meaning, wherever they are now: `containerd config migrate` moves them to other key
//! paths, people copy them from a drop-in to the root file or rename our runtime, and tools rewrite files in their
//! own style.
//!
//! Longer than 400 lines: the configuration of containerd, CRI-O and Docker is searched in the same steps, side by
//! side.

use std::path::Path;

use serde_json::Value as Json;
use toml_edit::{Item, TableLike};

use crate::edit::meaning::TomlMeaning;
use crate::edit::{json, toml};
use crate::engines::containerd::schema;
use crate::model::change::{Change, MergeKind};

/// How an engine's configuration names runtimes.
struct Language {
    /// The tables that can hold its settings, one for each schema.
    tables: &'static [&'static [&'static str]],
    /// The table of runtimes, within one of the tables above.
    runtimes: &'static [&'static str],
    /// The name of the default runtime, within one of the tables above.
    default: &'static [&'static str],
    /// A runtime's program, in its table.
    program: &'static [&'static str],
    /// The key without which the engine accepts no such table.
    needed: &'static str,
}

const LANGUAGES: [Language; 2] = [
    Language {
        tables: &schema::TABLES,
        runtimes: &["containerd", "runtimes"],
        default: &["containerd", "default_runtime_name"],
        program: &["options", "BinaryName"],
        needed: "runtime_type",
    },
    Language {
        tables: &[&["crio", "runtime"]],
        runtimes: &["runtimes"],
        default: &["default_runtime"],
        program: &["runtime_path"],
        needed: "runtime_path",
    },
];

/// A runtime of ours, as a change wrote it.
struct WrittenRuntime {
    language: &'static Language,
    /// Its name.
    name: String,
    /// What we set in its table.
    set: Vec<(Vec<String>, TomlMeaning)>,
    /// Its table before the change.
    before: Option<Item>,
    /// All runtimes before the change. They belong to the user even if they start our program.
    stood: Option<TomlMeaning>,
    /// Other values that we set outside the table of runtimes: the key path, our value, and the value before.
    beside: Vec<(Vec<String>, TomlMeaning, Option<Item>)>,
}

/// A runtime of ours in daemon.json.
struct DockerRuntime {
    entry: Json,
    is_default: bool,
    default_before: Option<Json>,
}

/// The settings that the changes of a receipt have made, by their meaning.
#[derive(Default)]
pub struct MovedEdits {
    runtimes: Vec<WrittenRuntime>,
    docker: Vec<DockerRuntime>,
    /// Runtimes in daemon.json before the change. They belong to the user even if they start our program.
    docker_before: Vec<(String, Json)>,
}

impl MovedEdits {
    /// Reads the settings from these changes.
    pub fn of(changes: &[Change]) -> Self {
        let mut edits = Self::default();
        for change in changes {
            match &change.kind {
                MergeKind::Toml { keys } => edits.add_toml(change, Some(keys)),
                MergeKind::Own => edits.add_toml(change, None),
                MergeKind::Json { .. } => edits.add_json(change),
                _ => {}
            }
        }
        edits
    }

    fn add_toml(&mut self, change: &Change, keys: Option<&Vec<Vec<String>>>) {
        let Some(after) = change.after.as_deref().and_then(|t| toml::parse(t).ok()) else {
            return;
        };
        let before = change.before.as_deref().filter(|_| keys.is_some());
        let before = before.and_then(|text| toml::parse(text).ok());
        let keys = keys.cloned().unwrap_or_else(|| leaves(after.as_item()));
        for language in &LANGUAGES {
            for table in language.tables {
                let within: Vec<&[String]> = keys.iter().filter_map(|k| below(k, table)).collect();
                let value =
                    |rest: &[String]| item(after.as_item(), &[*table, &strs(rest)].concat());
                let old =
                    |rest: &[&str]| item(before.as_ref()?.as_item(), &[*table, rest].concat());
                let mut names: Vec<&String> = Vec::new();
                for name in within
                    .iter()
                    .filter_map(|k| below(k, language.runtimes)?.first())
                {
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
                let beside = within
                    .iter()
                    .filter(|k| below(k, language.runtimes).is_none());
                let beside: Vec<_> = beside
                    .filter_map(|k| {
                        Some((
                            k.to_vec(),
                            TomlMeaning::of(value(k)?),
                            old(&strs(k)).cloned(),
                        ))
                    })
                    .collect();
                for name in names {
                    let at = [language.runtimes, &[name.as_str()]].concat();
                    let set = within.iter().filter_map(|k| {
                        let rest = below(k, &at)?;
                        Some((rest.to_vec(), TomlMeaning::of(value(k)?)))
                    });
                    self.runtimes.push(WrittenRuntime {
                        language,
                        name: name.clone(),
                        set: set.collect(),
                        before: old(&at).cloned(),
                        stood: old(language.runtimes).map(TomlMeaning::of),
                        beside: beside.clone(),
                    });
                }
            }
        }
    }

    fn add_json(&mut self, change: &Change) {
        let MergeKind::Json { keys } = &change.kind else {
            return;
        };
        let parsed = |text: Option<&str>| json::parse(text?).ok();
        let Some(after) = parsed(change.after.as_deref()) else {
            return;
        };
        let before = parsed(change.before.as_deref()).unwrap_or_default();
        let runtimes = before.get("runtimes").and_then(Json::as_object);
        let runtimes = runtimes.into_iter().flatten();
        self.docker_before
            .extend(runtimes.map(|(name, entry)| (name.clone(), entry.clone())));
        for path in keys {
            // A longer path is that of a runtime of another tool that we adopted; `before` contains it.
            let [first, name] = path.as_slice() else {
                continue;
            };
            let Some(entry) = after.get(first).and_then(|r| r.get(name)) else {
                continue;
            };
            if first == "runtimes" {
                self.docker.push(DockerRuntime {
                    entry: entry.clone(),
                    is_default: keys.iter().any(|k| k == &["default-runtime"]),
                    default_before: before.get("default-runtime").cloned(),
                });
            }
        }
    }

    /// The keys of a change that its engine no longer needs. The built-in runtime is named beside ours because an
    /// older containerd knows only named runtimes. It has to stay if a user has added keys to it or has added another
    /// runtime.
    pub fn to_take_out(&self, change: &Change, current: Option<&str>) -> Change {
        let mut change = change.clone();
        let (Some(now), Some(after)) = (
            current.and_then(TomlMeaning::of_text),
            change.after.as_deref().and_then(TomlMeaning::of_text),
        ) else {
            return change;
        };
        let MergeKind::Toml { keys } = &mut change.kind else {
            return change;
        };
        keys.retain(|path| {
            for language in &LANGUAGES {
                for table in language.tables {
                    let runtimes = [*table, language.runtimes].concat();
                    let Some([name, ..]) = below(path, &runtimes) else {
                        continue;
                    };
                    if self.is_ours(name) {
                        return true;
                    }
                    let names = |m: &TomlMeaning| {
                        let members = m.get(&runtimes).and_then(TomlMeaning::members);
                        members.map(|m| m.keys().cloned().collect::<Vec<_>>())
                    };
                    let known = names(&after).unwrap_or_default();
                    let at = [&runtimes[..], &[name.as_str()]].concat();
                    let has_more = names(&now)
                        .is_some_and(|names| names.iter().any(|name| !known.contains(name)));
                    return now.get(&at) == after.get(&at) && !has_more;
                }
            }
            true
        });
        change
    }

    /// Whether a runtime of that name starts our program.
    fn is_ours(&self, name: &str) -> bool {
        self.runtimes
            .iter()
            .any(|r| r.name == name && r.program().is_some())
    }

    /// The text without the settings that mean the same as what we wrote; `None` if there are none. `written` says
    /// whether a change of the receipt is about this file.
    pub fn taken_out(&self, path: &Path, text: &str, written: bool) -> Option<String> {
        if path.extension().is_some_and(|e| e == "json") {
            return self.taken_out_of_json(text);
        }
        let mut document = toml::parse(text).ok()?;
        let mut changed = false;
        for runtime in &self.runtimes {
            for table in runtime.language.tables {
                changed |= runtime.take_out(document.as_item_mut(), table, written);
            }
        }
        changed.then(|| document.to_string())
    }

    fn taken_out_of_json(&self, text: &str) -> Option<String> {
        let now = json::parse(text).ok()?;
        let runtimes = now.get("runtimes")?.as_object()?;
        let (mut keys, mut defaults) = (Vec::new(), Vec::new());
        for (name, entry) in runtimes {
            let mut stood = self.docker_before.iter();
            if stood.any(|(n, before)| n == name && before == entry) {
                continue;
            }
            let Some(ours) = self.docker.iter().find(|r| r.entry == *entry) else {
                continue;
            };
            keys.push(vec!["runtimes".to_owned(), name.clone()]);
            let is_default = now.get("default-runtime").and_then(Json::as_str) == Some(name);
            if is_default && ours.is_default {
                match &ours.default_before {
                    Some(old) => defaults.push((vec!["default-runtime".to_owned()], old.clone())),
                    None => keys.push(vec!["default-runtime".to_owned()]),
                }
            }
        }
        if keys.is_empty() {
            return None;
        }
        let text = json::set(text, &defaults).ok()?;
        json::without(&text, &keys).ok()
    }
}

impl WrittenRuntime {
    /// The program that the runtime starts, if that is what we set.
    fn program(&self) -> Option<&TomlMeaning> {
        let set = self.set.iter();
        set.clone()
            .find(|(keys, _)| strs(keys) == self.language.program)
            .map(|(_, value)| value)
    }

    /// Whether a table is what we wrote: it starts our program, and nothing that we set has another
    /// value.
    fn is(&self, table: &Item) -> bool {
        let now = TomlMeaning::of(table);
        let program = self.program();
        program.is_some()
            && now.get(self.language.program) == program
            && self
                .set
                .iter()
                .all(|(keys, ours)| now.get(keys).is_none_or(|value| value == ours))
    }

    /// Whether the table is what remains of ours without its own keys. No engine starts with such a table.
    fn is_rest(&self, name: &str, table: &Item) -> bool {
        let now = TomlMeaning::of(table);
        self.program().is_some()
            && self.before.is_none()
            && name == self.name
            && now.get(&[self.language.needed]).is_none()
            && now.get(self.language.program).is_none()
    }

    fn take_out(&self, document: &mut Item, table: &[&str], written: bool) -> bool {
        let runtimes = [table, self.language.runtimes].concat();
        let Some(present) = item(document, &runtimes).and_then(Item::as_table_like) else {
            return false;
        };
        let names = present.iter().filter(|(name, item)| {
            self.is(item) && !self.stood_before(name, item) || written && self.is_rest(name, item)
        });
        let names: Vec<String> = names.map(|(name, _)| name.to_owned()).collect();
        for name in &names {
            if let Some(runtimes) = item_mut(document, &runtimes) {
                self.restore(runtimes, name);
            }
            let default = [table, self.language.default].concat();
            let is_default = item(document, &default).and_then(Item::as_str) == Some(name);
            let ours =
                |k: &&(Vec<String>, TomlMeaning, Option<Item>)| strs(&k.0) == self.language.default;
            if let Some((_, _, old)) = self.beside.iter().find(ours).filter(|_| is_default) {
                put_back(document, &default, old.as_ref());
            }
        }
        if names.is_empty() {
            return false;
        }
        for (keys, ours, old) in &self.beside {
            let at = [table, &strs(keys)].concat();
            if item(document, &at).is_some_and(|now| TomlMeaning::of(now) == *ours) {
                put_back(document, &at, old.as_ref());
            }
        }
        prune(document, &runtimes, table.len());
        true
    }

    /// Whether the table is unchanged since before our change: it belongs to the user, although it starts our
    /// program.
    fn stood_before(&self, name: &str, table: &Item) -> bool {
        let stood = self.stood.as_ref().and_then(|s| s.get(&[name]));
        stood.is_some_and(|stood| *stood == TomlMeaning::of(table))
    }

    fn restore(&self, runtimes: &mut Item, name: &str) {
        let Some(runtimes) = runtimes.as_table_like_mut() else {
            return;
        };
        let Some(before) = &self.before else {
            runtimes.remove(name);
            return;
        };
        for (keys, _) in &self.set {
            let old = keys.iter().try_fold(before, |at, key| at.get(key));
            if let Some(table) = runtimes.get_mut(name) {
                put_back(table, &strs(keys), old);
            }
        }
    }
}

/// Restores a key's old value, or removes the key.
fn put_back(top: &mut Item, keys: &[&str], old: Option<&Item>) {
    let Some((last, parents)) = keys.split_last() else {
        return;
    };
    let at = parents.iter().try_fold(top, |at, key| at.get_mut(key));
    let Some(table) = at.and_then(Item::as_table_like_mut) else {
        return;
    };
    match old {
        Some(old) => drop(table.insert(last, old.clone())),
        None => drop(table.remove(last)),
    }
}

/// Removes the tables along a key path that are empty now, down to the given length. An empty table of runtimes would
/// hide the built-in runtimes.
fn prune(top: &mut Item, keys: &[&str], least: usize) {
    for length in (least..=keys.len()).rev() {
        let at = &keys[..length];
        let table = at.iter().try_fold(&*top, |at, key| at.get(key));
        let table = table.and_then(Item::as_table_like);
        if !table.is_some_and(TableLike::is_empty) {
            return;
        }
        put_back(top, at, None);
    }
}

fn item<'a>(top: &'a Item, keys: &[&str]) -> Option<&'a Item> {
    keys.iter().try_fold(top, |at, key| at.get(key))
}

fn item_mut<'a>(top: &'a mut Item, keys: &[&str]) -> Option<&'a mut Item> {
    keys.iter().try_fold(top, |at, key| at.get_mut(key))
}

fn strs(keys: &[String]) -> Vec<&str> {
    keys.iter().map(String::as_str).collect()
}

/// The part of a key path below another key path.
fn below<'a>(keys: &'a [String], top: &[&str]) -> Option<&'a [String]> {
    let is_below = keys.len() > top.len() && keys.iter().zip(top).all(|(a, b)| a == b);
    is_below.then(|| &keys[top.len()..])
}

/// The key paths of all values below an item.
fn leaves(item: &Item) -> Vec<Vec<String>> {
    let Some(table) = item.as_table_like() else {
        return vec![Vec::new()];
    };
    let mut all = Vec::new();
    for (key, item) in table.iter() {
        for mut rest in leaves(item) {
            rest.insert(0, key.to_owned());
            all.push(rest);
        }
    }
    all
}

/// Whether a text that we wrote completely has nothing left that has an effect.
pub fn is_empty(text: &str) -> bool {
    let head = ["version", "imports"];
    TomlMeaning::of_text(text).is_some_and(|rest| is_bare(&rest, &head))
}

fn is_bare(rest: &TomlMeaning, head: &[&str]) -> bool {
    let mut members = rest.members().into_iter().flatten();
    members.all(|(key, value)| {
        head.contains(&key.as_str()) || value.members().is_some() && is_bare(value, &[])
    })
}
