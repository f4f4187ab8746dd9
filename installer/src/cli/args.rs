//! The command line.
//!
//! Longer than 400 lines, since its texts are the program's help, which is read as one: manual pages and completions are made of it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::model::package::Package;
use crate::model::setup_options::{Existing, Mode};

/// Exit codes, a line each.
pub const EXIT_CODES: &[(&str, &str)] = &[
    ("0", "done, or nothing to do"),
    ("1", "failed, and everything was put back"),
    (
        "2",
        "changes to make (plan, --dry-run), or problems (doctor, cdi check)",
    ),
    (
        "3",
        "failed, and not put back whole; the list says what is left",
    ),
    ("4", "bad usage"),
    ("5", "another run holds the lock"),
    ("6", "host not supported, or no driver is loaded"),
    (
        "7",
        "partly done, or not verified; the last line says what is not",
    ),
    (
        "8",
        "containers that ran before do not run; the last line says which",
    ),
    ("9", "only root may do this: use sudo"),
    (
        "101",
        "an error in gpusetup itself; gpusetup recover puts back
what it had begun",
    ),
    ("130", "interrupted, and everything was put back"),
];

/// What of the environment is read.
pub const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "GPUSETUP_LOG",
        "what is logged and where: a level (off, error, warn, info,
debug) and places (journal, stderr, file=/PATH), with commas.
Without it a command that changes this host logs to the journal:
journalctl -t gpusetup",
    ),
    ("NO_COLOR", "no colour"),
    ("TERM=dumb", "like --plain"),
    ("LANG", "where it has no UTF-8, marks are ASCII"),
];

/// What stands below the options: no line is wider than the narrowest usual terminal.
fn after() -> String {
    let table = |rows: &[(&str, &str)], first: usize| -> String {
        rows.iter()
            .map(|(name, says)| {
                let next = format!("\n  {:first$}  ", "");
                format!("\n  {name:first$}  {}", says.replace('\n', &next))
            })
            .collect()
    };
    format!(
        "Without a command it shows what is here and what to do next.\n\nExit codes:{}\n\nEnvironment:{}",
        table(EXIT_CODES, 3),
        table(ENVIRONMENT, 12)
    )
}

/// Gives containers the GPUs of this host
#[derive(Parser, Debug)]
#[command(name = "gpusetup", version, disable_help_subcommand = true)]
#[command(after_help = after())]
pub struct Cli {
    /// What to do; without it, the state of this host
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub common: Common,
}

/// Flags of every command.
#[allow(clippy::struct_excessive_bools, reason = "one for each flag")]
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Act on a directory tree instead of this host; nothing is started or restarted
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Look for the driver's libraries below this directory, such as /run/nvidia/driver
    /// [default: nvidia-container-cli.root of the policy, else /]
    #[arg(long, global = true, value_name = "DIR")]
    pub driver_root: Option<PathBuf>,
    /// Print the result as one JSON document
    #[arg(long, global = true)]
    pub json: bool,
    /// Say only results and failures, no progress
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Say also each program run and each file written; with doctor, the cause of each problem
    #[arg(long, short, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Append everything that is done, with times, to this file
    #[arg(long, global = true, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// Use no colour, draw over nothing, ask in lines: for screen readers and logs
    #[arg(long, global = true)]
    pub plain: bool,
}

/// Commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Show what is here: distribution, driver, GPUs, engines, what is configured
    Detect,
    /// Show what install would change, as a diff with a reason each; exits 2 if anything
    Plan(InstallArgs),
    /// Set the engines up: plan, ask, write, restart, verify; put all back if that fails
    Install(InstallArgs),
    /// Run a container in each engine, from a built-in image, and see whether it has its GPUs
    Verify(VerifyArgs),
    /// Find known problems of this host, each with evidence and fix; exits 2 if there are any
    Doctor(DoctorArgs),
    /// Go back to before, keeping what you changed since
    #[command(alias = "uninstall")]
    Undo(UndoArgs),
    /// Print what NVML says of the GPUs; gpusetup starts itself with this, since NVML may never answer
    #[command(hide = true)]
    AskNvml {
        /// The driver's libnvidia-ml.so.1
        library: PathBuf,
        /// Print the links between them instead
        #[arg(long)]
        links: bool,
    },
    /// Say what still needs the packages' programs; packages ask this before they are removed
    #[command(hide = true)]
    References(ReferencesArgs),
    /// End a run that died, and put back what it did; install and undo do this by themselves
    Recover(RecoverArgs),
    /// Write a support archive: facts, files and logs with secrets masked, and a page to read
    Bundle(BundleArgs),
    /// Make, list and check CDI specs, which tell engines of the GPUs
    #[command(subcommand)]
    Cdi(CdiCommand),
    /// Read and edit the runtime's /etc/nvidia-container-runtime/config.toml, comments kept
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make the driver's device nodes, and the links by which systemd knows them
    #[command(subcommand)]
    System(SystemCommand),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, as roff
    Man {
        /// Write a page for each command into this directory instead
        #[arg(long, value_name = "DIR")]
        pages: Option<PathBuf>,
    },
}

impl Command {
    /// Whether it changes the host, or runs something on it.
    pub fn changes(&self) -> bool {
        match self {
            Self::Install(args) => !args.dry_run,
            Self::Undo(args) => !args.dry_run,
            Self::Doctor(args) => args.fix.is_some(),
            Self::Cdi(command) => matches!(command, CdiCommand::Refresh { .. }),
            Self::Config(command) => matches!(command, ConfigCommand::Set { dry_run: false, .. }),
            Self::Verify(_) | Self::Recover(_) | Self::System(_) => true,
            Self::Detect
            | Self::Plan(_)
            | Self::References(_)
            | Self::AskNvml { .. }
            | Self::Bundle(_)
            | Self::Completions { .. }
            | Self::Man { .. } => false,
        }
    }
}

/// Flags of plan and install.
#[allow(clippy::struct_excessive_bools, reason = "one for each flag")]
#[derive(Args, Clone, Debug)]
pub struct InstallArgs {
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Only this engine, by its name in detect; repeatable
    #[arg(long = "engine", value_name = "NAME")]
    pub engines: Vec<String>,
    /// Make our runtime the default: every container can ask for GPUs by its environment. Docker
    /// records the runtime's name in each container made meanwhile
    #[arg(long, conflicts_with = "no_default_runtime")]
    pub default_runtime: bool,
    /// Take that back: the default is again what it was. Without either flag it stays as it is
    #[arg(long)]
    pub no_default_runtime: bool,
    /// By what containers get their GPUs
    #[arg(long, value_enum, default_value = "both")]
    pub mode: Mode,
    /// What to do with a runtime "nvidia", a CDI spec or a hook that another tool or you have set up
    #[arg(long, value_enum, default_value = "refuse", value_name = "WHAT")]
    pub existing: Existing,
    /// Leave the engines running as they are; changes take effect when they are restarted
    #[arg(long)]
    pub no_restart: bool,
    /// Set up all engines or none: start those that do not run, and put all back if one fails
    #[arg(long)]
    pub all_or_nothing: bool,
    /// Change nothing where a restart would stop running containers
    #[arg(long, conflicts_with = "no_restart")]
    pub keep_containers: bool,
    /// Do not run a container at the end
    #[arg(long)]
    pub no_verify: bool,
    /// Set up an image that is being built, from within it: nothing is started, no GPU looked for;
    /// its first boot does the rest
    #[arg(long)]
    pub image: bool,
    /// Change nothing; exits 2 if there is something to do
    #[arg(long)]
    pub dry_run: bool,
}

/// Flags of recover.
#[derive(Args, Clone, Debug)]
pub struct RecoverArgs {
    /// Put back what can be put back, and give up the rest: the journal of that run is renamed, and
    /// later commands go on
    #[arg(long)]
    pub give_up: bool,
}

/// Flags of verify.
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// Only this engine, by its name in detect; repeatable
    #[arg(long = "engine", value_name = "NAME")]
    pub engines: Vec<String>,
    /// Do not look whether containers keep their GPUs over a systemctl daemon-reload
    #[arg(long)]
    pub no_daemon_reload: bool,
}

/// Flags of doctor.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// Mend what is safe to mend, or only these; put back if that fails
    #[arg(long, value_name = "ID", num_args = 0..)]
    pub fix: Option<Vec<String>>,
    /// Do not ask
    #[arg(long, short, requires = "fix")]
    pub yes: bool,
    /// Mend the files alone, and leave the engines running as they are
    #[arg(long, requires = "fix")]
    pub no_restart: bool,
    /// Read a log or an error message from standard input, and tell cause and fix
    #[arg(long, conflicts_with = "fix")]
    pub explain: bool,
}

/// Flags of bundle.
#[derive(Args, Clone, Debug)]
pub struct BundleArgs {
    /// Archive to write, - for standard output [default: gpusetup-bundle-TIME.tar.gz, here]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Flags of undo.
#[allow(clippy::struct_excessive_bools, reason = "one for each flag")]
#[derive(Args, Clone, Debug)]
pub struct UndoArgs {
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Undo even where containers need what goes; they would not start again
    #[arg(long)]
    pub force: bool,
    /// Leave Docker a runtime of our runtime's name that is plain runc: containers that ask for no
    /// GPU and have that name recorded start by it
    #[arg(long)]
    pub leave_runtime: bool,
    /// Leave the engines running as they are
    #[arg(long)]
    pub no_restart: bool,
    /// Change nothing where a restart would stop running containers
    #[arg(long, conflicts_with = "no_restart")]
    pub keep_containers: bool,
    /// Change nothing; exits 2 if there is something to undo
    #[arg(long)]
    pub dry_run: bool,
}

/// Flags of references.
#[derive(Args, Clone, Debug)]
pub struct ReferencesArgs {
    /// Packages that are to go
    #[arg(value_enum, value_name = "PACKAGE", default_values = ["gpusetup", "gpu-container-toolkit"])]
    pub packages: Vec<Package>,
    /// Leave out what an undo takes back
    #[arg(long)]
    pub after_undo: bool,
    /// Print, as variables of a shell, where to look without gpusetup
    #[arg(long, conflicts_with_all = ["packages", "after_undo"])]
    pub places: bool,
}

/// Commands on the CDI spec.
#[derive(Subcommand, Debug)]
pub enum CdiCommand {
    /// Print a spec of this host, or write it to a file
    Generate(Box<GenerateArgs>),
    /// Change the paths in a spec
    #[command(subcommand)]
    Transform(TransformCommand),
    /// List the names that --device takes
    List,
    /// Check whether the specs of this host are sound and fresh; exits 2 if not
    Check,
    /// Write the spec anew where it is stale; gpusetup-cdi.service does this at boot
    Refresh {
        /// Wait up to two minutes for the driver's answer; gpusetup starts itself with this
        #[arg(long, hide = true)]
        patient: bool,
    },
}

/// Commands on /etc/nvidia-container-runtime/config.toml.
#[derive(Subcommand, Debug)]
pub enum ConfigCommand {
    /// Print the file, or the defaults where there is none
    Show,
    /// Print every key with its default
    Default,
    /// Print one value
    Get {
        /// Such as nvidia-container-runtime.mode
        key: String,
    },
    /// Change values; anything else in the file stays as it is
    Set {
        /// KEY=VALUE, lists with commas; a KEY alone is true
        #[arg(value_name = "KEY=VALUE")]
        settings: Vec<String>,
        /// Print the file as it would be; exits 2 if it would change
        #[arg(long)]
        dry_run: bool,
    },
}

/// Flags of cdi generate. Those that nvidia-ctk has too mean the same.
#[derive(Args, Clone, Debug)]
pub struct GenerateArgs {
    /// What to describe, and from what
    #[arg(long, alias = "discovery-mode", value_enum, default_value = "auto")]
    pub mode: DescribeMode,
    /// How devices are named; repeatable, or a comma list
    #[arg(
        long = "device-name-strategy",
        value_name = "STRATEGY",
        value_enum,
        value_delimiter = ',',
        default_values = ["index", "uuid"]
    )]
    pub names: Vec<NameBy>,
    /// Only these devices: index, UUID, GPU:SLICE, channel; repeatable, or a comma list
    #[arg(
        long = "device-id",
        aliases = ["device-ids", "device", "devices"],
        value_name = "ID",
        value_delimiter = ','
    )]
    pub devices: Vec<String>,
    /// Leave out the device "all", which is every device in one
    #[arg(long)]
    pub no_all_device: bool,
    /// Vendor in device names, VENDOR/CLASS=NAME; each mode has its own
    #[arg(long, alias = "cdi-vendor", value_name = "NAME")]
    pub vendor: Option<String>,
    /// Class in device names, VENDOR/CLASS=NAME; each mode has its own
    #[arg(long, alias = "cdi-class", value_name = "NAME")]
    pub class: Option<String>,
    /// Directory whose dev/ has the nodes [default: the driver root if it has GPU nodes, else /]
    #[arg(long, value_name = "DIR")]
    pub dev_root: Option<PathBuf>,
    /// Also look here for the driver's libraries, before the usual places; repeatable
    #[arg(long = "library-search-path", value_name = "DIR")]
    pub libraries: Vec<PathBuf>,
    /// Also look here for the driver's data files (vulkan/, glvnd/, …); repeatable
    #[arg(long = "config-search-path", value_name = "DIR")]
    pub configs: Vec<PathBuf>,
    /// On a Jetson, read this list in place of those of the usual directory; repeatable
    #[arg(long = "csv-file", alias = "csv.file", value_name = "FILE")]
    pub csv_files: Vec<PathBuf>,
    /// Where the host that gets the spec has our hook's program
    #[arg(long, value_name = "FILE", default_value = gpu_inject::generate::HOOK_PATH)]
    pub hook_path: PathBuf,
    /// Format [default: as the output's name ends, else yaml]
    #[arg(long, value_enum)]
    pub format: Option<SpecFormat>,
    /// File to write, - for standard output; it gets .yaml or .json as its ending
    #[arg(long, short, default_value = "-", value_name = "FILE")]
    pub output: PathBuf,
}

/// What a spec describes.
#[allow(clippy::doc_markdown, reason = "--help shows it as it is")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DescribeMode {
    /// GPUs: by WSL, by CSV lists on a Jetson, else by NVML and /proc
    Auto,
    /// GPUs, asked of NVML; of /proc where it does not answer
    Nvml,
    /// GPUs, as /proc and /sys list them; no library is loaded
    Procfs,
    /// The GPU of a Jetson, by its CSV lists
    Csv,
    /// The GPUs of a Windows host
    Wsl,
    /// Every node of the driver, for containers that manage GPUs
    Management,
    /// GPUDirect Storage: /dev/nvidia-fs*
    Gds,
    /// InfiniBand: /dev/infiniband
    Mofed,
    /// NVSwitch: /dev/nvidia-nvswitch*
    Nvswitch,
    /// GDRCopy: /dev/gdrdrv
    Gdrcopy,
    /// IMEX channels: /dev/nvidia-caps-imex-channels
    Imex,
    /// GPUs of AMD: /dev/kfd, /dev/dri
    Amd,
    /// GPUs of Intel: /dev/dri
    Intel,
}

/// How devices are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum NameBy {
    /// 0, 0:1
    Index,
    /// GPU-…, MIG-…
    Uuid,
    /// gpu0, mig0:1
    TypeIndex,
}

/// Of a spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SpecFormat {
    /// YAML
    Yaml,
    /// JSON
    Json,
}

/// What to change.
#[derive(Subcommand, Debug)]
pub enum TransformCommand {
    /// Move paths from one root to another
    Root {
        /// What the paths begin with
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// What they are to begin with
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// Spec to read, - for standard input
        #[arg(long, default_value = "-", value_name = "FILE")]
        input: PathBuf,
        /// File to write, - for standard output; it can be the same
        #[arg(long, short, default_value = "-", value_name = "FILE")]
        output: PathBuf,
        /// Whether to change the paths on the host, or those that a container sees
        #[arg(long, value_enum, default_value = "host", value_name = "WHOSE")]
        relative_to: PathsOf,
    },
}

/// Whose paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PathsOf {
    /// The host's
    Host,
    /// The container's
    Container,
}

/// Commands on device nodes.
#[derive(Subcommand, Debug)]
pub enum SystemCommand {
    /// Make the driver's nodes that are not there yet, as nvidia-modprobe would
    CreateDeviceNodes {
        /// Only the nodes that are not one GPU's: nvidiactl, modeset, uvm, uvm-tools
        #[arg(long)]
        control_devices: bool,
        /// Directory whose dev/ has the nodes [default: the driver root if it has GPU nodes, else /]
        #[arg(long, value_name = "DIR")]
        dev_root: Option<PathBuf>,
        /// Only say which would be made
        #[arg(long)]
        dry_run: bool,
    },
    /// Make the links /dev/char/MAJOR:MINOR, without which a daemon-reload can take GPUs away
    CreateDevCharSymlinks {
        /// Only say which would be made
        #[arg(long)]
        dry_run: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::EXIT_CODES;
    use crate::error::exit::Exit;

    #[test]
    fn each_exit_code_is_explained() {
        let explained: Vec<&str> = EXIT_CODES.iter().map(|(code, _)| *code).collect();
        let mut codes: Vec<String> = [
            Exit::Done,
            Exit::Failed,
            Exit::Found,
            Exit::RollbackIncomplete,
            Exit::Usage,
            Exit::Locked,
            Exit::Unsupported,
            Exit::Partly,
            Exit::ContainersDown,
            Exit::NeedsRoot,
            Exit::Interrupted,
        ]
        .map(|exit| exit.number().to_string())
        .into();
        // A panic's code is Rust's own.
        codes.insert(10, "101".into());
        assert_eq!(explained, codes);
    }
}
