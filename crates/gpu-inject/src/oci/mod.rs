//! Reads and edits an OCI bundle's config.json, and reads a container's state.

mod apply;
mod arrangement;
mod config_view;
mod hook_args;
mod long_config;
mod scan;
mod state;
mod words;

pub use apply::{HOOK_ENV, Mounter, NodeForm, apply, apply_to_value, to_cdi};
pub use arrangement::Arrangement;
pub use config_view::{ContainerView, early_root_path};
pub use hook_args::{
    ConfigFacts, HOST_PATH_BEHIND, NO_SHARED_FLAG, OWN_DEV_FLAG, ROOTFS_FLAG, read_arguments,
    version_pair,
};
pub use scan::Scan;
pub use state::ContainerState;
