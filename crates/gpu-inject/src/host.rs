//! A host and the policy for containers on it: what `nvidia-container-cli` and the library for C
//! begin with.

use std::io;
use std::path::{Component, Path, PathBuf};

use gpu_host::{Inventory, Options, Root, discover, ldcache};
use serde_json::Value;

use crate::edits::Edits;
use crate::error::Error;
use crate::generate::{self, GenerateOptions, inventory_store};
use crate::oci::ContainerView;
use crate::plan;
use crate::policy::Policy;
use crate::request::Request;

/// Where to look.
#[derive(Clone, Debug)]
pub struct Look {
    /// The tree of the host; `/` unless this is a chroot or a test.
    pub root: PathBuf,
    /// Where in it the driver's user space lives; None for what the policy says.
    pub driver_root: Option<PathBuf>,
    /// The loader cache of the driver root; None for `/etc/ld.so.cache`.
    pub ld_cache: Option<PathBuf>,
    /// The policy's file; None for [`crate::policy::PATH`].
    pub config: Option<PathBuf>,
}

impl Default for Look {
    fn default() -> Self {
        Self {
            root: "/".into(),
            driver_root: None,
            ld_cache: None,
            config: None,
        }
    }
}

/// A host and the policy for containers on it.
#[derive(Clone, Debug)]
pub struct Host {
    inventory: Inventory,
    policy: Policy,
}

impl Host {
    /// Looks: at the stored inventory where it still describes what is asked for, else at
    /// the host itself.
    pub fn look(look: &Look) -> Result<Self, Error> {
        let root = open(&look.root)?;
        let policy = policy(&look.root, look.config.as_deref())?;
        let is_usual = look.driver_root.is_none() && look.ld_cache.is_none();
        let inventory = if is_usual || policy.inventory.is_some() {
            inventory_store::current(&root, &policy)?
        } else {
            elsewhere(&root, look, &policy)?
        };
        Ok(Self { inventory, policy })
    }

    /// A host that is known already.
    pub fn of(inventory: Inventory, policy: Policy) -> Self {
        Self { inventory, policy }
    }

    /// What containers here can be given.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// What containers may ask for.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What a container of this OCI config asks for.
    pub fn request_of(&self, config: &Value) -> Result<Request, Error> {
        Request::read(ContainerView::new(config), &self.policy)
    }

    /// The edits that give it, and nothing else.
    pub fn plan(&self, request: &Request) -> Result<Edits, Error> {
        plan::plan(&self.inventory, request, &self.policy)
    }

    /// The CDI spec of every device, with `hook` as our hook's program.
    pub fn cdi_spec(&self, hook: &Path) -> Result<cdi::Spec, Error> {
        let options = GenerateOptions {
            hook_path: hook.to_owned(),
            ..GenerateOptions::default()
        };
        generate::cdi_spec(&self.inventory, &options)
    }
}

/// Whether a container's root file system can be there: an absolute path that is not the
/// host's own root by another spelling.
pub fn can_be_rootfs(path: &Path) -> bool {
    let leads_somewhere = path.components().any(|c| matches!(c, Component::Normal(_)));
    let climbs = path.components().any(|c| c == Component::ParentDir);
    path.is_absolute() && leads_somewhere && !climbs
}

/// The policy of that tree, from its usual file or this one.
pub fn policy(root: &Path, config: Option<&Path>) -> Result<Policy, Error> {
    let root = open(root)?;
    match config {
        Some(path) => Policy::load_from(&root, path),
        None => Policy::load(&root),
    }
}

fn open(path: &Path) -> Result<Root, Error> {
    Root::open(path).map_err(|source| Error::Host {
        path: path.to_owned(),
        source,
    })
}

/// With a driver root or a loader cache that somebody names.
fn elsewhere(root: &Root, look: &Look, policy: &Policy) -> Result<Inventory, Error> {
    let driver_root = look.driver_root.as_ref().unwrap_or(&policy.driver_root);
    if look.ld_cache.is_none()
        && let Some(stored) = inventory_store::load(root).filter(|i| i.driver_root == *driver_root)
    {
        return Ok(stored);
    }
    let library_search = match &look.ld_cache {
        Some(cache) => directories_of(
            root,
            &driver_root.join(cache.strip_prefix("/").unwrap_or(cache)),
        )?,
        None => Vec::new(),
    };
    let options = Options {
        driver_root: driver_root.clone(),
        library_search,
        nvml: false,
        ..Options::new(root.clone())
    };
    Ok(discover(&options)?)
}

/// The directories that a loader cache names, which are looked at before the usual ones.
fn directories_of(root: &Root, path: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Host {
        path: path.to_owned(),
        source,
    };
    let bytes = root.read(path).map_err(failed)?;
    let entries = ldcache::parse(&bytes).map_err(|e| failed(io::Error::other(e)))?;
    let parents = entries.iter().filter_map(|e| e.path.parent());
    let mut found: Vec<PathBuf> = Vec::new();
    for parent in parents {
        if found.last().is_none_or(|last| last != parent) && !found.iter().any(|d| d == parent) {
            found.push(parent.to_owned());
        }
    }
    Ok(found)
}
