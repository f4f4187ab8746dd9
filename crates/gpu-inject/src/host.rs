//! A host and the policy for its containers, in one value: the starting point of
//! `nvidia-container-cli` and of the C library.

use std::io;
use std::path::{Component, Path, PathBuf};

use gpu_host::{Inventory, NvmlUse, Options, Root, discover, ldcache};
use serde_json::Value;

use crate::edits::Edits;
use crate::error::Error;
use crate::generate::{self, GenerateOptions, inventory_store};
use crate::oci::ContainerView;
use crate::plan;
use crate::policy::Policy;
use crate::request::Request;

/// Where to find the host's tree, driver and policy.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// The tree of the host; `/` except for a chroot or a test.
    pub root: PathBuf,
    /// The driver root in that tree; `None` means the one in the policy.
    pub driver_root: Option<PathBuf>,
    /// The loader cache in the driver root; `None` means `/etc/ld.so.cache`.
    pub ld_cache: Option<PathBuf>,
    /// The policy's file; `None` means [`crate::policy::PATH`].
    pub config: Option<PathBuf>,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            root: "/".into(),
            driver_root: None,
            ld_cache: None,
            config: None,
        }
    }
}

/// A host's inventory and the policy for its containers.
#[derive(Clone, Debug)]
pub struct GpuHost {
    inventory: Inventory,
    policy: Policy,
}

impl GpuHost {
    /// Reads the policy and the inventory: the stored inventory if it is fresh and fits the
    /// options, else by discovery.
    pub fn load(options: &HostOptions) -> Result<Self, Error> {
        let root = open(&options.root)?;
        let policy = policy(&options.root, options.config.as_deref())?;
        let is_usual = options.driver_root.is_none() && options.ld_cache.is_none();
        let inventory = if is_usual || policy.inventory.is_some() {
            inventory_store::current(&root, &policy)?
        } else {
            inventory_of_custom_driver(&root, options, &policy)?
        };
        Ok(Self { inventory, policy })
    }

    /// A host whose inventory and policy were read already.
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

    /// The request that a container with this OCI config makes.
    pub fn request_of(&self, config: &Value) -> Result<Request, Error> {
        Request::read(ContainerView::new(config), &self.policy)
    }

    /// The edits that fulfil the request.
    pub fn plan(&self, request: &Request) -> Result<Edits, Error> {
        plan::plan(&self.inventory, request, &self.policy)
    }

    /// The CDI spec of all devices; `hook` is the path of our hook's program.
    pub fn cdi_spec(&self, hook: &Path) -> Result<cdi::Spec, Error> {
        let options = GenerateOptions {
            hook_path: hook.to_owned(),
            ..GenerateOptions::default()
        };
        generate::cdi_spec(&self.inventory, &options)
    }
}

/// Whether `path` is acceptable as a container's root file system: absolute, without `..`, and
/// not another spelling of `/`.
pub fn can_be_rootfs(path: &Path) -> bool {
    let is_below_root = path.components().any(|c| matches!(c, Component::Normal(_)));
    let has_parent_dir = path.components().any(|c| c == Component::ParentDir);
    path.is_absolute() && is_below_root && !has_parent_dir
}

/// Reads the policy of a host's tree, from `config` or else from the usual file.
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

/// The inventory if the options name a driver root or a loader cache.
fn inventory_of_custom_driver(
    root: &Root,
    options: &HostOptions,
    policy: &Policy,
) -> Result<Inventory, Error> {
    let driver_root = options.driver_root.as_ref().unwrap_or(&policy.driver_root);
    if options.ld_cache.is_none()
        && let Some(stored) = inventory_store::load(root).filter(|i| i.driver_root == *driver_root)
    {
        return Ok(stored);
    }
    let library_search = match &options.ld_cache {
        Some(cache) => directories_of(
            root,
            &driver_root.join(cache.strip_prefix("/").unwrap_or(cache)),
        )?,
        None => Vec::new(),
    };
    let discovery = Options {
        driver_root: driver_root.clone(),
        library_search,
        nvml: NvmlUse::No,
        ..Options::new(root.clone())
    };
    Ok(discover(&discovery)?)
}

/// The directories in a loader cache, without duplicates. They are searched before the usual ones.
fn directories_of(root: &Root, path: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Host {
        path: path.to_owned(),
        source,
    };
    let bytes = root.read(path).map_err(failed)?;
    let entries = ldcache::parse(&bytes).map_err(|e| failed(io::Error::other(e)))?;
    let parents = entries.iter().filter_map(|e| e.path.parent());
    let mut dirs: Vec<PathBuf> = Vec::new();
    for parent in parents {
        if dirs.last().is_none_or(|last| last != parent) && !dirs.iter().any(|d| d == parent) {
            dirs.push(parent.to_owned());
        }
    }
    Ok(dirs)
}
