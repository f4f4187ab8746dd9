//! The facts of the host that the checks share. Each is read when the first check asks for it.

mod kernel;

use std::fmt::Display;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use cdi::{Registry, SPEC_DIRS};
use gpu_host::root::FailedRead;
use gpu_host::{Inventory, Mismatch, Options, init, platform};
use gpu_inject::policy::Policy;

use crate::doctor::engine_state::EngineState;
use crate::doctor::fact::{Fact, FailedReads};
use crate::doctor::rpm;
use crate::doctor::spec_files::{self, SpecFile};
use crate::engines;
use crate::engines::engine::{self, Engine, Engines};
use crate::error::Error;
use crate::host::Host;
use crate::host::answer::Answer;
use crate::host::policy_file::HostPolicy;
use crate::model::change::Change;
use crate::model::setup_options::SetupOptions;
use crate::model::toolkit_traces::OtherToolkits;
use crate::setup::other_toolkits;
use crate::setup::{gpu_files, history};
use crate::transaction::receipt::Receipt;

/// A GPU or an `NVSwitch` on PCI.
#[derive(Clone, Debug)]
pub struct Pci {
    /// `0000:3b:00.0`
    pub address: String,
    /// The kernel driver that is bound to it.
    pub driver: Option<String>,
    /// Whether it is a switch between GPUs rather than a GPU.
    pub is_switch: bool,
}

/// An engine with the changes that its files lack, or the error that prevented determining them.
pub type Lost<'a> = (&'a dyn Engine, Result<Vec<Change>, Error>);

/// The host, as the checks see it.
pub struct HostFacts<'a> {
    /// The host's files and programs.
    pub host: &'a Host,
    failed: FailedReads<'a>,
    inventory: Fact<Result<Inventory, Error>>,
    engines: Fact<Engines>,
    foreign: Fact<OtherToolkits>,
    pci: Fact<Vec<Pci>>,
    processes: Fact<Vec<String>>,
    packages: Fact<Vec<(String, String, String)>>,
    platform: Fact<platform::Platform>,
    receipt: Fact<Option<Receipt>>,
    installed: Fact<Option<String>>,
    policy: Fact<Result<HostPolicy, Error>>,
    registry: Fact<Registry>,
    specs: Fact<Vec<SpecFile>>,
    described: Fact<Vec<Change>>,
    states: Fact<Vec<EngineState>>,
}

impl<'a> HostFacts<'a> {
    /// The facts of a host, none of them read yet.
    pub fn new(host: &'a Host) -> Self {
        Self {
            host,
            failed: FailedReads::of(host.root()),
            inventory: Fact::default(),
            engines: Fact::default(),
            foreign: Fact::default(),
            pci: Fact::default(),
            processes: Fact::default(),
            packages: Fact::default(),
            platform: Fact::default(),
            receipt: Fact::default(),
            installed: Fact::default(),
            policy: Fact::default(),
            registry: Fact::default(),
            specs: Fact::default(),
            described: Fact::default(),
            states: Fact::default(),
        }
    }

    /// The result of `look`, and the reads that failed for it: its own and those of every fact it used, even if
    /// another check was the first to need that fact.
    pub fn watched<T>(&self, look: impl FnOnce(&Self) -> T) -> (T, Vec<FailedRead>) {
        self.failed.watched(|| look(self))
    }

    /// The value. An error is recorded: the running check could not examine it.
    pub fn ok<T, E: Display>(&self, result: Result<T, E>) -> Option<T> {
        result.map_err(|e| self.failed.note(e.to_string())).ok()
    }

    /// Why a file that an engine or our runtime reads is not valid. One that this user may not read may well be, so that
    /// is recorded instead.
    pub fn invalid<T>(&self, file: Result<T, &Error>) -> Option<String> {
        let error = file.err()?;
        if self.host.user().is_some() && error.is_denied() {
            self.failed.note(error.to_string());
            return None;
        }
        Some(error.to_string())
    }

    /// The value of an answer. An unknown answer is recorded.
    pub fn known<T>(&self, answer: Answer<T>) -> Option<T> {
        match answer {
            Answer::Known(value) => Some(value),
            Answer::None => None,
            Answer::Unknown(why) => {
                self.failed.note(why);
                None
            }
        }
    }

    /// A file's text; `None` if the file is missing or cannot be read, which is recorded.
    pub fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let read = self.host.root().read_to_string(path);
        // The root records only what the system refuses, not content that cannot be used.
        if let Err(e) = &read
            && matches!(e.kind(), ErrorKind::InvalidData | ErrorKind::FileTooLarge)
        {
            self.failed.note(e.to_string());
        }
        read.ok()
    }

    /// The same, from the engine that has read the file, if there is one.
    pub fn engine_text(&self, path: &Path) -> Option<String> {
        let known = self.engines().iter().find_map(|e| e.text_of(path));
        known.map(str::to_owned).or_else(|| self.text(path))
    }

    /// Whether a path exists.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.host.root().exists(path)
    }

    /// The names in a directory, as paths.
    pub fn entries(&self, dir: impl AsRef<Path>) -> Vec<PathBuf> {
        let dir = dir.as_ref();
        let names = self.host.root().read_dir(dir).unwrap_or_default();
        names.into_iter().map(|n| dir.join(n)).collect()
    }

    /// What the host can give to containers, or why that is unknown.
    pub fn inventory(&self) -> Result<&Inventory, &Error> {
        let look = || gpu_files::inventory(self.host);
        self.inventory.get(&self.failed, look).as_ref()
    }

    /// The same inventory, if a driver is loaded.
    pub fn loaded(&self) -> Option<&Inventory> {
        self.ok(self.inventory()).filter(|i| i.driver.is_some())
    }

    /// Version of the loaded kernel module.
    pub fn loaded_version(&self) -> Option<String> {
        gpu_host::loaded_version(self.host.root())
    }

    /// Version of the driver's user space.
    pub fn installed_version(&self) -> Option<String> {
        let look = || gpu_host::installed_version(self.host.root(), &self.host.driver_root);
        self.installed.get(&self.failed, look).clone()
    }

    /// The mismatch between the driver's libraries and its kernel module, if there is one.
    pub fn mismatch(&self) -> Option<Mismatch> {
        let options = Options {
            driver_root: self.host.driver_root.clone(),
            ..Options::new(self.host.root().clone())
        };
        gpu_host::mismatch(&options, self.ok(self.inventory())?)
    }

    /// The kind of platform: WSL, a Jetson, a container or a plain host.
    pub fn platform(&self) -> &platform::Platform {
        let look = || platform::detect(self.host.root());
        self.platform.get(&self.failed, look)
    }

    /// Whether this is a plain host, neither WSL nor a Jetson: it uses NVIDIA's own kernel driver.
    pub fn is_plain(&self) -> bool {
        !self.platform().wsl && self.platform().jetson.is_none()
    }

    /// Whether systemd runs here.
    pub fn has_systemd(&self) -> bool {
        init::detect(self.host.root()) == init::Init::Systemd
    }

    /// The engines on this host.
    pub fn engines(&self) -> &[Box<dyn Engine>] {
        self.engines
            .get(&self.failed, || engines::detect(self.host))
    }

    /// The engine with that name.
    pub fn engine(&self, name: &str) -> Option<&dyn Engine> {
        let mut all = self.engines().iter();
        all.find(|e| e.facts().name == name).map(|e| &**e)
    }

    /// An engine's version; `None` if the engine is not here, or if its version is unknown, which is recorded.
    pub fn engine_version(&self, name: &str) -> Option<(u32, u32)> {
        let version = self.engine(name)?.facts().version.as_deref();
        if version.is_none() {
            self.failed
                .note(format!("the version of {name} is not known"));
        }
        version.map(engine::major_minor)
    }

    /// Other toolkits that give GPUs to containers.
    pub fn foreign(&self) -> &OtherToolkits {
        let look = || other_toolkits::find(self.host, self.engines());
        self.foreign.get(&self.failed, look)
    }

    /// The receipt; `None` if gpusetup has done nothing here. A user's is only of what that user has set up, so that
    /// root's, which a user may not read, is recorded as not examined.
    pub fn receipt(&self) -> Option<&Receipt> {
        let load = || {
            if let Err(why) = history::roots_record(self.host) {
                self.failed.note(why);
            }
            self.ok(Receipt::load(self.host)).flatten()
        };
        self.receipt.get(&self.failed, load).as_ref()
    }

    /// Whether each engine is set up, as `decide` finds it the first time.
    pub fn engine_states(&self, decide: impl FnOnce() -> Vec<EngineState>) -> &[EngineState] {
        self.states.get(&self.failed, decide)
    }

    /// The first file of an engine, or of what gpusetup wrote, that names this program of ours.
    pub fn file_naming(&self, program: &str) -> Option<PathBuf> {
        let written = self.receipt().into_iter().flat_map(|r| &r.changes);
        let mut written = written.filter(|c| c.after.as_ref().is_some_and(|a| a.contains(program)));
        if let Some(change) = written.next() {
            return Some(change.path.clone());
        }
        let read = self.engines().iter().flat_map(|e| e.reads());
        let mut files = read.chain([gpu_inject::generate::SPEC_PATH.into()]);
        files.find(|path| {
            let text = self.engine_text(path).unwrap_or_default();
            names_path(&text, program)
        })
    }

    /// Whether the CDI spec is the one that gpusetup keeps up to date.
    pub fn has_our_spec(&self) -> bool {
        let path = Path::new(gpu_inject::generate::SPEC_PATH);
        let mut files = self.spec_files().iter().filter(|file| file.path == path);
        let is_ours = |text: &str| text.contains(gpu_inject::generate::HOOK_PATH);
        self.has_written(path) || files.any(|file| file.text().is_some_and(is_ours))
    }

    /// Whether gpusetup has written that file.
    pub fn has_written(&self, path: &Path) -> bool {
        self.receipt()
            .is_some_and(|r| history::has_written(r, path))
    }

    /// Files of the GPUs' description that differ from what would be written now. The CDI spec is
    /// left out if another tool maintains it.
    pub fn described(&self) -> &[Change] {
        self.described.get(&self.failed, || {
            let Some(inventory) = self.loaded() else {
                return Vec::new();
            };
            let changes = self.ok(gpu_files::described(self.host, inventory));
            let mut changes = changes.unwrap_or_default();
            // Without an answer, nothing is reported about the spec.
            let is_left = self.ok(other_toolkits::spec_is_left(self.host));
            if is_left != Some(false) {
                let spec = Path::new(gpu_inject::generate::SPEC_PATH);
                changes.retain(|c| c.path != spec);
            }
            changes
        })
    }

    /// The options with which earlier runs set up that engine; `None` if they did not change it.
    pub fn was_wanted(&self, engine: &dyn Engine) -> Option<SetupOptions> {
        history::wanted(self.receipt()?, engine)
    }

    /// Engines whose files have lost what an earlier run wrote, with the changes that restore it.
    pub fn lost(&self) -> Vec<Lost<'_>> {
        let set_up = self.engines().iter().filter_map(|engine| {
            let engine = &**engine;
            let wanted = self.was_wanted(engine)?;
            Some((engine, engine.changes(self.host, &wanted)))
        });
        let lacks = |c: &Result<Vec<Change>, Error>| c.as_ref().map_or(true, |c| !c.is_empty());
        set_up.filter(|(_, changes)| lacks(changes)).collect()
    }

    /// dpkg's packages: name, status, version.
    pub fn dpkg(&self) -> &[(String, String, String)] {
        self.packages.get(&self.failed, || {
            let status = self.text("/var/lib/dpkg/status").unwrap_or_default();
            let paragraphs = status.split("\n\n").filter_map(|paragraph| {
                let field = |key: &str| {
                    let mut lines = paragraph.lines();
                    lines.find_map(|l| Some(l.strip_prefix(key)?.strip_prefix(": ")?.to_owned()))
                };
                let version = field("Version").unwrap_or_default();
                Some((field("Package")?, field("Status")?, version))
            });
            paragraphs.collect()
        })
    }

    /// The upstream part of an installed package's version: 1.17.4 of `1:1.17.4-1`. Packages of RPM, whose database only
    /// its own program reads, are recorded as not examined in a directory tree.
    pub fn package(&self, name: &str) -> Option<String> {
        let listed = self.host.package_version(&[name]);
        let version = listed.or_else(|| self.known(rpm::version(self.host, name)))?;
        let version = version.rsplit_once(':').map_or(&*version, |(_, v)| v);
        Some(version.split(['-', '+', '~']).next()?.to_owned())
    }

    /// The engines themselves, for a plan that takes ownership of them.
    pub fn into_engines(self) -> Engines {
        let host = self.host;
        let engines = self.engines.into_inner();
        engines.unwrap_or_else(|| engines::detect(host))
    }

    /// The files in the directories of CDI specs, whatever their names.
    pub fn spec_files(&self) -> &[SpecFile] {
        self.specs.get(&self.failed, || {
            let dirs = SPEC_DIRS.iter().enumerate();
            let files =
                dirs.flat_map(|(n, dir)| self.entries(dir).into_iter().map(move |f| (n, f)));
            let root = self.host.root();
            files
                .map(|(n, path)| SpecFile::read(root, n, path))
                .collect()
        })
    }

    /// The CDI specs of this host, as engines read them.
    pub fn registry(&self) -> &Registry {
        let make = || spec_files::registry(self.spec_files());
        self.registry.get(&self.failed, make)
    }

    /// The policy that applies when a container starts, or why it cannot be read.
    pub fn policy_file(&self) -> Result<&HostPolicy, &Error> {
        let read = || self.host.policy();
        self.policy.get(&self.failed, read).as_ref()
    }

    /// The policy that applies when a container starts.
    pub fn policy(&self) -> Option<&Policy> {
        self.ok(self.policy_file()).map(|file| &file.policy)
    }
}

/// Whether a text names that path itself, not one that begins with it.
fn names_path(text: &str, path: &str) -> bool {
    text.match_indices(path).any(|(at, _)| {
        let next = text[at + path.len()..].chars().next();
        next.is_none_or(|c| !c.is_alphanumeric() && c != '-' && c != '_')
    })
}
