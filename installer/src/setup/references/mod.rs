//! Finds what on this host still needs the programs and the CDI spec of our packages, before one of
//! them is removed: configuration of engines, units, quadlets and containers, root's and users'.
//! Users' own engines are not asked and nothing is changed.

mod accounts;
pub mod containers;
pub mod local_files;
pub mod search;
mod time_limit;
pub mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use self::accounts::Account;
use self::local_files::{LocalFiles, NotSeen};
use self::search::Place;
use crate::engines;
use crate::error::Error;
use crate::host::Host;
use crate::model::package::Package;
use crate::setup::{other_toolkits, undo_planner};
use crate::transaction::receipt::{RECEIPT, Receipt};
use crate::transaction::state_file;

/// What needs a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReferenceKind {
    /// A configuration file, unit or quadlet.
    File,
    /// A container that exists.
    Container,
    /// What an undo would give back.
    Undo,
}

/// Something on this host that needs a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reference {
    /// What it is.
    pub kind: ReferenceKind,
    /// The file, or the container's engine and name.
    pub at: String,
    /// The user it belongs to, if that is not root.
    pub user: Option<String>,
    /// What it needs.
    pub why: String,
    /// Who has to do what before the package goes.
    pub fix: String,
}

/// What needs the packages, and what could not be looked at.
#[derive(Debug, Default)]
pub struct References {
    /// What is known to need them.
    pub needed: Vec<Reference>,
    /// What was not looked at.
    pub not_seen: Vec<NotSeen>,
}

impl References {
    /// The exit code: 2 if something needs the packages, else 1 if something was not looked at.
    pub fn code(&self) -> u8 {
        if !self.needed.is_empty() {
            2
        } else {
            u8::from(!self.not_seen.is_empty())
        }
    }

    fn add(&mut self, reference: Reference) {
        if !self.needed.contains(&reference) {
            self.needed.push(reference);
        }
    }

    fn add_not_seen(&mut self, unseen: NotSeen) {
        if !self.not_seen.contains(&unseen) {
            self.not_seen.push(unseen);
        }
    }
}

/// Which packages go, and what that takes along.
#[derive(Clone, Debug)]
pub struct Removal {
    packages: Vec<Package>,
    /// Whether CDI devices named `nvidia.com/gpu` are described by our spec.
    is_our_spec: bool,
}

impl Removal {
    fn has(&self, package: Package) -> bool {
        self.packages.contains(&package)
    }

    /// What in a text of that place would be missing: the word by which it is known.
    fn missing_for(&self, place: Place, text: &str) -> Option<&'static str> {
        let programs = || words::first(text, words::PROGRAMS);
        let devices = || {
            (place == Place::Requests && self.is_our_spec)
                .then(|| words::first(text, words::DEVICES))
                .flatten()
        };
        let vendor_names = || words::first_vendor_name(text);
        let of_toolkit = self
            .has(Package::GpuContainerToolkit)
            .then(|| programs().or_else(devices));
        let of_compat = self.has(Package::GpusetupNvidiaCompat).then(vendor_names);
        of_toolkit.flatten().or(of_compat.flatten())
    }
}

/// Looks for what needs these packages. With `after_undo`, what `gpusetup undo` takes back does not
/// count.
pub fn find(host: &Host, packages: &[Package], after_undo: bool) -> Result<References, Error> {
    let removal = Removal {
        packages: packages.to_vec(),
        // If it is not known whose the spec is, it counts as ours.
        is_our_spec: !other_toolkits::spec_is_left(host).unwrap_or(false),
    };
    let files = LocalFiles::open(host.root())
        .map_err(Error::file(host.root().path(), "look at"))?;
    let mut found = References::default();
    let undone = undone(host, &removal, after_undo, &mut found);
    of_system(host, &files.wherever(), &removal, &undone, &mut found);
    of_users(host, &files, &removal, &mut found);
    Ok(found)
}

/// The texts of files as an undo leaves them.
type Undone = BTreeMap<PathBuf, Option<String>>;

fn undone(host: &Host, removal: &Removal, after_undo: bool, found: &mut References) -> Undone {
    if !after_undo || !removal.has(Package::Gpusetup) && !removal.has(Package::GpuContainerToolkit) {
        return Undone::new();
    }
    let plan = match undo_planner::plan(host) {
        Ok(Some((plan, _))) => plan,
        Ok(None) => return Undone::new(),
        Err(e) => {
            found.add(Reference {
                kind: ReferenceKind::Undo,
                at: host.state(RECEIPT).display().to_string(),
                user: None,
                why: format!("`gpusetup undo` cannot be run: {e}"),
                fix: e.fix().unwrap_or_else(|| "mend that, then run `gpusetup undo`".into()),
            });
            return Undone::new();
        }
    };
    let undone: Undone = plan.changes.into_iter().map(|c| (c.path, c.after)).collect();
    for (path, text) in &undone {
        let returned = text.as_deref().and_then(words::first_vendor_name);
        if let Some(name) = returned.filter(|_| !has_vendor_runtime(host)) {
            found.add(Reference {
                kind: ReferenceKind::Undo,
                at: path.display().to_string(),
                user: None,
                why: format!("an undo would give it back to {name}, which is not installed"),
                fix: "install nvidia-container-toolkit, then remove this package; or run `gpusetup undo` and take that runtime out of the file".into(),
            });
        }
    }
    undone
}

/// Whether the vendor's own runtime is installed, and not one of our programs under its name.
fn has_vendor_runtime(host: &Host) -> bool {
    let at = host.program("nvidia-container-runtime");
    let real = at.and_then(|path| host.root().canonicalize(path).ok());
    real.is_some_and(|path| !path.starts_with("/usr/lib/gpu-container"))
}

/// Root's configuration, units and containers.
fn of_system(
    host: &Host,
    files: &LocalFiles,
    removal: &Removal,
    undone: &Undone,
    found: &mut References,
) {
    let mut places = search::of_system();
    let engines = engines::detect(host);
    // Where a flag has moved an engine's file.
    let moved = engines.iter().filter_map(|e| e.facts().config.clone());
    places.extend(moved.map(|path| (Place::Configuration, path)));
    let receipt = Receipt::load(host).ok().flatten();
    let written = receipt.iter().flat_map(|r| &r.changes).map(|c| c.path.clone());
    let written: Vec<PathBuf> = written.collect();
    places.extend(written.iter().map(|path| (Place::Configuration, path.clone())));
    let text = |path: &Path| match undone.get(path) {
        Some(after) => Ok(after.clone()),
        None => files.text(path),
    };
    let (matches, not_seen) = search::matches(files, &places, text, |_, place, text| {
        removal.missing_for(place, text)
    });
    not_seen.into_iter().for_each(|unseen| found.add_not_seen(unseen));
    for (path, word) in matches.into_iter().filter(|(path, _)| !search::is_ours(path)) {
        let is_set_up = written.contains(&path);
        found.add(Reference {
            kind: ReferenceKind::File,
            at: path.display().to_string(),
            user: None,
            why: format!("names {word}"),
            fix: fix(word, is_set_up, None),
        });
    }
    if removal.has(Package::GpuContainerToolkit) && removal.is_our_spec {
        let data = data_root(files);
        let (containers, not_seen) = containers::of_root(host, files, data.as_deref());
        not_seen.into_iter().for_each(|unseen| found.add_not_seen(unseen));
        add_containers(containers, None, found);
    }
}

/// Who has to do what about a file that has this word.
fn fix(word: &str, is_set_up: bool, user: Option<&str>) -> String {
    let who = user.map(|user| format!(" as {user}")).unwrap_or_default();
    if is_set_up {
        format!("run `gpusetup undo`{who}")
    } else if words::DEVICES.contains(&word) {
        format!("take the device out of it{who}, or remove it")
    } else if words::VENDOR_NAMES.contains(&word) {
        format!(
            "install nvidia-container-toolkit, which then has that name; or run `gpusetup install \
             --existing adopt`{who}, which puts gpusetup's own names there; or take it out of the \
             file{who} and restart what reads the file"
        )
    } else {
        format!("take it out of that file{who}, and restart what reads the file")
    }
}

/// Docker's data directory, if its file moves it.
fn data_root(files: &LocalFiles) -> Option<PathBuf> {
    let text = files.text(Path::new("/etc/docker/daemon.json")).ok()??;
    let file: serde_json::Value = serde_json::from_str(&text).ok()?;
    file["data-root"].as_str().map(PathBuf::from)
}

fn add_containers(
    containers: Vec<containers::Container>,
    user: Option<&str>,
    found: &mut References,
) {
    for container in containers {
        let who = user.map(|user| format!(" as {user}")).unwrap_or_default();
        found.add(Reference {
            kind: ReferenceKind::Container,
            at: format!("{} container {}", container.engine, container.name),
            user: user.map(str::to_owned),
            why: "has devices of our CDI spec".into(),
            fix: format!("remove that container{who}"),
        });
    }
}

/// What users have set up for themselves.
fn of_users(host: &Host, files: &LocalFiles, removal: &Removal, found: &mut References) {
    let accounts = accounts::find(host);
    accounts.not_seen.into_iter().for_each(|unseen| found.add_not_seen(unseen));
    // Root's engines are the system's.
    let accounts: Vec<Account> = accounts.known.into_iter().filter(|a| a.uid != 0).collect();
    let (files, removal) = (files.clone(), removal.clone());
    let look = move |account: &Account| of_user(&files, &removal, account);
    let seen = time_limit::each(accounts, time_limit::LIMIT, look);
    for (account, seen) in seen {
        let Some(seen) = seen else {
            found.add_not_seen(NotSeen {
                path: account.config.first().cloned().unwrap_or_default(),
                why: "reading it took too long".into(),
            });
            continue;
        };
        seen.needed.into_iter().for_each(|reference| found.add(reference));
        seen.not_seen.into_iter().for_each(|unseen| found.add_not_seen(unseen));
    }
}

fn of_user(files: &LocalFiles, removal: &Removal, account: &Account) -> References {
    let mut found = References::default();
    let mut account = account.clone();
    if let Err(unseen) = account.add_environment_files(files) {
        // Everything of theirs is in that directory, or beside it.
        found.add_not_seen(unseen);
    }
    let mut written: Vec<PathBuf> = Vec::new();
    for dir in &account.state {
        match set_up(files, &dir.join("gpusetup").join(RECEIPT)) {
            Ok(paths) => written.extend(paths),
            Err(unseen) => found.add_not_seen(unseen),
        }
    }
    let mut places = search::of_user(&account.config);
    let named = account.daemon_json.iter().chain(&written);
    places.extend(named.map(|path| (Place::Configuration, path.clone())));
    // What gpusetup has set up needs gpusetup itself as well, to be undone.
    let to_undo = |path: &Path, text: &str| {
        let is_set_up = removal.has(Package::Gpusetup) && written.iter().any(|w| w == path);
        is_set_up.then(|| words::first(text, words::PROGRAMS)).flatten()
    };
    let missing = |path: &Path, place, text: &str| {
        removal.missing_for(place, text).or_else(|| to_undo(path, text))
    };
    let (matches, not_seen) = search::matches(files, &places, |path| files.text(path), missing);
    not_seen.into_iter().for_each(|unseen| found.add_not_seen(unseen));
    for (path, word) in matches {
        let is_set_up = written.contains(&path);
        found.add(Reference {
            kind: ReferenceKind::File,
            at: path.display().to_string(),
            user: Some(account.name.clone()),
            why: format!("names {word}"),
            fix: fix(word, is_set_up, Some(&account.name)),
        });
    }
    if removal.has(Package::GpuContainerToolkit) && removal.is_our_spec {
        let (containers, not_seen) = containers::of_user(files, &account.config, &account.data);
        not_seen.into_iter().for_each(|unseen| found.add_not_seen(unseen));
        add_containers(containers, Some(&account.name), &mut found);
    }
    found
}

/// The files that a user's gpusetup has written.
fn set_up(files: &LocalFiles, receipt: &Path) -> Result<Vec<PathBuf>, NotSeen> {
    let Some(text) = files.text(receipt)? else {
        return Ok(Vec::new());
    };
    let receipt: Receipt = state_file::parse(RECEIPT, text.as_bytes()).map_err(|fault| NotSeen {
        path: receipt.to_owned(),
        why: fault.to_string(),
    })?;
    Ok(receipt.changes.into_iter().map(|c| c.path).collect())
}
