//! The policy of the host, or what is left of it while its file cannot be used. Then containers that ask for GPUs are
//! refused with the reason, and all others start: with our runtime as an engine's default, they are most of the host's.

use std::path::PathBuf;

use gpu_host::Root;
use gpu_inject::oci::{ContainerView, Scan};
use gpu_inject::policy::Policy;
use gpu_inject::request::{asks_in_any_way, names_a_way};
use gpu_inject::{Error, Message};

use crate::oci_bundle::{ConfigJson, OciBundle};

/// The policy, if its file can be used.
pub(crate) enum PolicyState {
    /// The file's policy, and the host that it is of.
    Sound(Root, Policy),
    /// The file cannot be used.
    Broken(BrokenPolicy),
}

/// A policy's file that cannot be used.
pub(crate) struct BrokenPolicy {
    why: Error,
    /// What could be read of it.
    known: Policy,
}

impl PolicyState {
    /// Reads the policy from this file.
    pub(crate) fn read(path: impl FnOnce(&Root) -> PathBuf) -> Self {
        let root = match Root::host() {
            Ok(root) => root,
            Err(source) => {
                let path = "/".into();
                return Self::Broken(BrokenPolicy {
                    why: Error::Host { path, source },
                    known: Policy::default(),
                });
            }
        };
        let path = path(&root);
        match Policy::load_from(&root, &path) {
            Ok(policy) => Self::Sound(root, policy),
            Err(why) => Self::Broken(BrokenPolicy {
                why,
                known: Policy::salvaged(&root, &path),
            }),
        }
    }

    /// The low-level runtimes and the log are right in it; what a container is given must not be decided by it.
    pub(crate) fn known(&self) -> &Policy {
        match self {
            Self::Sound(_, policy) => policy,
            Self::Broken(broken) => &broken.known,
        }
    }
}

impl BrokenPolicy {
    /// Returns a warning about a container that asks for no GPU, which starts. The error for any other.
    pub(crate) fn ensure_no_gpu_asked(self, bundle: &OciBundle) -> Result<Message, Error> {
        if self.may_ask(bundle)? {
            return Err(self.why);
        }
        Ok(Message::of(format_args!(
            "this container asks for no GPU and is started; one that asks is refused: {}",
            self.why
        )))
    }

    fn may_ask(&self, bundle: &OciBundle) -> Result<bool, Error> {
        let known = &self.known;
        let text = match bundle.config()? {
            ConfigJson::Text(text) => text,
            ConfigJson::Long(file) => {
                return match bundle.scan(file, &known.annotation_prefixes) {
                    Ok(scan) => Ok(asks_in_any_way(ContainerView::of(&scan), known)),
                    Err(_) => bundle.names_a_way(known),
                };
            }
            ConfigJson::NoFile => return Ok(false),
        };
        if let Some(scan) = Scan::read(&text) {
            return Ok(asks_in_any_way(ContainerView::of(&scan), known));
        }
        match bundle.value(&text) {
            Ok(value) => Ok(asks_in_any_way(ContainerView::new(&value), known)),
            Err(_) => Ok(names_a_way(&*text, known).unwrap_or(true)),
        }
    }
}
