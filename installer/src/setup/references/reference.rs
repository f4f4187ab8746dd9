//! The results of the search for what needs our packages, and the rules by which a text needs them.

use serde::Serialize;

use super::containers::Container;
use super::search::SearchKind;
use super::words;
use crate::error::exit::Exit;
use crate::error::invocation::Invocation;
use crate::host::local_files::NotSeen;
use crate::model::package::Package;

/// The kind of thing that needs a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReferenceKind {
    /// A configuration file, unit or quadlet.
    File,
    /// A container that exists.
    Container,
    /// A setting that an undo would restore.
    Undo,
}

/// Something on this host that needs a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reference {
    /// Its kind.
    pub kind: ReferenceKind,
    /// The file, or the container's engine and name.
    pub at: String,
    /// The user it belongs to, unless that is root.
    pub user: Option<String>,
    /// What it needs.
    pub why: String,
    /// What must be done, and by whom, before the package is removed.
    pub fix: String,
}

/// What needs the packages, and what could not be examined.
#[derive(Debug, Default)]
pub struct References {
    /// What is known to need them.
    pub needed: Vec<Reference>,
    /// What was not examined.
    pub not_seen: Vec<NotSeen>,
}

impl References {
    /// The exit code: 2 if something needs the packages, otherwise 1 if something was not examined.
    pub fn exit(&self) -> Exit {
        if self.needed.is_empty() {
            Exit::if_failed(!self.not_seen.is_empty())
        } else {
            Exit::Found
        }
    }

    /// Adds something that needs a package, unless it is there already.
    pub fn add(&mut self, reference: Reference) {
        if !self.needed.contains(&reference) {
            self.needed.push(reference);
        }
    }

    /// Adds places that were not examined, unless they are there already.
    pub fn add_not_seen(&mut self, not_seen: impl IntoIterator<Item = NotSeen>) {
        for unseen in not_seen {
            if !self.not_seen.contains(&unseen) {
                self.not_seen.push(unseen);
            }
        }
    }
}

/// Which packages are removed, and what goes with them.
#[derive(Clone, Debug)]
pub struct Removal {
    packages: Vec<Package>,
    /// Whether CDI devices named `nvidia.com/gpu` are described by our spec.
    is_our_spec: bool,
}

impl Removal {
    /// A removal of these packages.
    pub fn new(packages: &[Package], is_our_spec: bool) -> Self {
        Self {
            packages: packages.to_vec(),
            is_our_spec,
        }
    }

    /// Whether the toolkit is removed and the requested devices are those of its spec.
    pub fn takes_devices(&self) -> bool {
        self.has(Package::GpuContainerToolkit) && self.is_our_spec
    }

    /// Whether that package is removed.
    pub fn has(&self, package: Package) -> bool {
        self.packages.contains(&package)
    }

    /// The word in a text of that place that names something that would be missing.
    pub fn missing_for(&self, place: SearchKind, text: &str) -> Option<&'static str> {
        let programs = || words::first(text, words::PROGRAMS);
        let devices = || {
            (place == SearchKind::Requests && self.is_our_spec)
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

/// What must be done, and by whom, about a file that contains this word.
pub fn fix(word: &str, is_set_up: bool, user: Option<&str>) -> String {
    let who = user.map(|user| format!(" as {user}")).unwrap_or_default();
    if is_set_up {
        format!("run `{}`{who}", Invocation::Undo)
    } else if words::DEVICES.contains(&word) {
        format!("take the device out of it{who}, or remove it")
    } else if words::VENDOR_NAMES.contains(&word) {
        format!(
            "install nvidia-container-toolkit, which then has that name; or run `{}`{who}, which puts \
             gpusetup's own names there; or take it out of the file{who} and restart what reads the file",
            Invocation::InstallAdopting
        )
    } else {
        format!("take it out of that file{who}, and restart what reads the file")
    }
}

/// Adds containers that need our spec.
pub fn add_containers(containers: Vec<Container>, user: Option<&str>, references: &mut References) {
    for container in containers {
        let who = user.map(|user| format!(" as {user}")).unwrap_or_default();
        references.add(Reference {
            kind: ReferenceKind::Container,
            at: format!("{} container {}", container.engine, container.name),
            user: user.map(str::to_owned),
            why: "has devices of our CDI spec".into(),
            fix: format!("remove that container{who}"),
        });
    }
}
