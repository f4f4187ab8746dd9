//! Finds what needs our packages among the files of users: rootless engines, quadlets, units and containers.

use std::path::{Path, PathBuf};

use super::reference::{Reference, ReferenceKind, References, Removal, add_containers, fix};
use super::search::{self, SearchKind};
use super::{containers, time_limit, words};
use crate::host::accounts::{self, Account};
use crate::host::local_files::{LocalFiles, NotSeen};
use crate::host::{Host, RECEIPT};
use crate::model::package::Package;
use crate::transaction::receipt::Receipt;
use crate::transaction::state_file;

/// Adds what users have set up for themselves.
pub fn add(host: &Host, files: &LocalFiles, removal: &Removal, references: &mut References) {
    let accounts = accounts::find(host);
    references.add_not_seen(accounts.not_seen);
    // Root's engines belong to the system.
    let accounts: Vec<Account> = accounts.known.into_iter().filter(|a| a.uid != 0).collect();
    let (files, removal) = (files.clone(), removal.clone());
    let look = move |account: &Account| of_user(&files, &removal, account);
    let results = time_limit::each(accounts, time_limit::LIMIT, look);
    for (account, result) in results {
        let Some(result) = result else {
            references.add_not_seen([NotSeen {
                path: account.home,
                why: "reading it took too long".into(),
            }]);
            continue;
        };
        for reference in result.needed {
            references.add(reference);
        }
        references.add_not_seen(result.not_seen);
    }
}

fn of_user(files: &LocalFiles, removal: &Removal, account: &Account) -> References {
    let mut references = References::default();
    let mut account = account.clone();
    let mut unseen = account.drop_unseen(files);
    // Directories that cannot be read were dropped above, but a single environment file may still be unreadable.
    unseen.extend(account.add_environment_files(files));
    unseen.extend(account.drop_unseen(files));
    references.add_not_seen(unseen);
    let mut written: Vec<PathBuf> = Vec::new();
    for dir in &account.state {
        match set_up(files, &dir.join("gpusetup").join(RECEIPT)) {
            Ok(paths) => written.extend(paths),
            Err(unseen) => references.add_not_seen([unseen]),
        }
    }
    let mut places = search::of_user(&account.config);
    let named = account.daemon_json.iter().chain(&written);
    places.extend(named.map(|path| (SearchKind::Configuration, path.clone())));
    // A setup made by gpusetup also needs gpusetup itself, to be undone.
    let to_undo = |path: &Path, text: &str| {
        let is_set_up = removal.has(Package::Gpusetup) && written.iter().any(|w| w == path);
        is_set_up
            .then(|| words::first(text, words::PROGRAMS))
            .flatten()
    };
    let missing = |path: &Path, place, text: &str| {
        removal
            .missing_for(place, text)
            .or_else(|| to_undo(path, text))
    };
    let (matches, not_seen) = search::matches(files, &places, |path| files.text(path), missing);
    references.add_not_seen(not_seen);
    for (path, word) in matches {
        let is_set_up = written.contains(&path);
        references.add(Reference {
            kind: ReferenceKind::File,
            at: path.display().to_string(),
            user: Some(account.name.clone()),
            why: format!("names {word}"),
            fix: fix(word, is_set_up, Some(&account.name)),
        });
    }
    if removal.takes_devices() {
        let (containers, not_seen) = containers::of_user(files, &account.config, &account.data);
        references.add_not_seen(not_seen);
        add_containers(containers, Some(&account.name), &mut references);
    }
    references
}

/// The files that a user's gpusetup has written.
fn set_up(files: &LocalFiles, receipt: &Path) -> Result<Vec<PathBuf>, NotSeen> {
    let Some(text) = files.text(receipt)? else {
        return Ok(Vec::new());
    };
    let receipt: Receipt =
        state_file::parse(RECEIPT, text.as_bytes()).map_err(|fault| NotSeen {
            path: receipt.to_owned(),
            why: fault.to_string(),
        })?;
    Ok(receipt.changes.into_iter().map(|c| c.path).collect())
}
