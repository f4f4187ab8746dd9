//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Runs one container through a CRI socket
#[derive(Parser)]
#[allow(clippy::struct_excessive_bools, reason = "one for each flag")]
pub(crate) struct Arguments {
    /// The engine's CRI socket
    #[arg(long, default_value = "/run/containerd/containerd.sock")]
    pub(crate) socket: PathBuf,
    /// The image, which the engine already has
    #[arg(long, required_unless_present_any = ["archive", "remove_leftovers", "remove_image"])]
    pub(crate) image: Option<String>,
    /// The image, as an OCI image archive; the engine has it for as long as the container runs
    #[arg(long, conflicts_with = "image")]
    pub(crate) archive: Option<PathBuf>,
    /// Start nothing where the engine would have to pull the image of its sandboxes
    #[arg(long)]
    pub(crate) no_pull: bool,
    /// The image of the engine's sandboxes, for an engine that does not tell its name
    #[arg(long)]
    pub(crate) sandbox_image: Option<String>,
    /// Runtime handler; empty for the engine's default
    #[arg(long, default_value = "")]
    pub(crate) runtime_handler: String,
    /// An environment variable, NAME=value
    #[arg(long = "env")]
    pub(crate) envs: Vec<String>,
    /// An annotation of the container, NAME=value
    #[arg(long = "annotation")]
    pub(crate) annotations: Vec<String>,
    /// CDI device
    #[arg(long = "cdi-device")]
    pub(crate) cdi_devices: Vec<String>,
    /// The pod's cgroup; a slice such as `pods.slice` where the runtime uses systemd
    #[arg(long, default_value = "")]
    pub(crate) cgroup_parent: String,
    /// Run as a pod that manages its node: with all rights and the node's processes
    #[arg(long)]
    pub(crate) privileged: bool,
    /// A capability that the container has besides the usual ones
    #[arg(long = "capability")]
    pub(crate) capabilities: Vec<String>,
    /// Mount a directory of the node, NODE:CONTAINER
    #[arg(long = "mount")]
    pub(crate) mounts: Vec<String>,
    /// Seconds until the container is given up
    #[arg(long, default_value_t = 60)]
    pub(crate) timeout: u64,
    /// The command prints a line and stays: print that line; at a line on standard input, run the
    /// command's first word in the container and print its output; then end the pod
    #[arg(long)]
    pub(crate) stay: bool,
    /// Mark the pod as one that --remove-leftovers removes
    #[arg(long)]
    pub(crate) remove_on_next: bool,
    /// Remove the pods and images that killed runs with --remove-on-next have left, and do nothing else
    #[arg(long, conflicts_with_all = ["image", "archive"])]
    pub(crate) remove_leftovers: bool,
    /// Remove an image with all its names, and do nothing else; that there is none is no error
    #[arg(long, conflicts_with_all = ["image", "archive", "remove_leftovers"])]
    pub(crate) remove_image: Option<String>,
    /// The container's command
    #[arg(last = true, required_unless_present_any = ["remove_leftovers", "remove_image"])]
    pub(crate) command: Vec<String>,
}
