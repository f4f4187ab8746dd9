//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::engines::{Existing, Mode};

const AFTER: &str = "\
Exit codes: 0 done or nothing to do, 1 failed and put back, 2 changes to make (plan) or problems (doctor),
3 failed and not put back whole, 4 bad usage, 5 another run holds the lock, 6 host not supported, 130 interrupted
and put back.

Environment: GPUSETUP_LOG says what is logged and where to: a level (off, error, warn, info, debug) and places
(journal, stderr, file=/PATH), with commas. Without it a command that changes this host tells the journal each
of its decisions: journalctl -t gpusetup. A file of --log-file gets everything, with times. NO_COLOR, TERM=dumb
and --plain leave colour out, the latter two also whatever is drawn over; without UTF-8 in LANG marks are ASCII.";

/// Sets up GPU containers: detects, plans, applies, verifies and undoes
#[derive(Parser, Debug)]
#[command(name = "gpusetup", version, disable_help_subcommand = true)]
#[command(after_help = AFTER)]
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
    /// Where the driver's user space lives
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    pub driver_root: PathBuf,
    /// Print one JSON document
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress, only results and failures
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Also each program run and each file written
    #[arg(long, short, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Append all that, with times, to a file
    #[arg(long, global = true, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// No colour, nothing drawn over, questions as lines: for screen readers and logs
    #[arg(long, global = true)]
    pub plain: bool,
}

/// Commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// What is here: distribution, driver, GPUs, engines, what is configured
    Detect,
    /// What install would change, as a diff with a reason each; exits 2 if anything
    Plan(InstallArgs),
    /// Plan, ask, apply, restart, verify
    Install(InstallArgs),
    /// Run a container in each engine, from a built-in image
    Verify(VerifyArgs),
    /// Known problems of this host, each with evidence and fix; exits 2 if there are any
    Doctor(DoctorArgs),
    /// Back to before, keeping what you changed since
    #[command(alias = "uninstall")]
    Undo(UndoArgs),
    /// End a run that died: put back what it did; install and undo do this by themselves
    Recover,
    /// A support archive: facts, configuration with secrets masked, logs, one readable HTML page
    Bundle(BundleArgs),
    /// The CDI spec
    #[command(subcommand)]
    Cdi(Cdi),
    /// The policy file of the start path, with its comments kept
    #[command(subcommand)]
    Config(Config),
    /// Device nodes and the links by which systemd knows them
    #[command(subcommand)]
    System(System),
    /// Completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// The manual page, as roff
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
            Self::Cdi(command) => matches!(command, Cdi::Refresh),
            Self::Config(command) => matches!(command, Config::Set { dry_run: false, .. }),
            Self::Verify(_) | Self::Recover | Self::System(_) => true,
            Self::Detect
            | Self::Plan(_)
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
    /// Only this engine; repeatable
    #[arg(long = "engine", value_name = "NAME")]
    pub engines: Vec<String>,
    /// Make our runtime the engines' default
    #[arg(long)]
    pub default_runtime: bool,
    /// How containers get GPUs
    #[arg(long, value_enum, default_value = "both")]
    pub mode: Mode,
    /// What becomes of a runtime "nvidia", a CDI spec or a hook that another tool or you have set up
    #[arg(long, value_enum, default_value = "refuse")]
    pub existing: Existing,
    /// Leave the engines running as they are; changes take effect when they are restarted
    #[arg(long)]
    pub no_restart: bool,
    /// Change nothing where a restart would stop running containers
    #[arg(long, conflicts_with = "no_restart")]
    pub keep_containers: bool,
    /// Do not run a container at the end
    #[arg(long)]
    pub no_verify: bool,
    /// This is an image that is being built: nothing is started, and no GPU looked for; its first boot does the rest
    #[arg(long)]
    pub image: bool,
    /// Change nothing; exits 2 if there is something to do
    #[arg(long)]
    pub dry_run: bool,
}

/// Flags of verify.
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// Only this engine; repeatable
    #[arg(long = "engine", value_name = "NAME")]
    pub engines: Vec<String>,
    /// Do not try whether containers keep their GPUs over a systemctl daemon-reload
    #[arg(long)]
    pub no_daemon_reload: bool,
}

/// Flags of doctor.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// Mend what is safe, through the same transaction as install; only these, where they are named
    #[arg(long, value_name = "ID", num_args = 0..)]
    pub fix: Option<Vec<String>>,
    /// Do not ask
    #[arg(long, short, requires = "fix")]
    pub yes: bool,
    /// Mend the files alone; leave the engines running as they are
    #[arg(long, requires = "fix")]
    pub no_restart: bool,
    /// Read what a program says from standard input (a log, an error), and tell cause and fix
    #[arg(long, conflicts_with = "fix")]
    pub explain: bool,
}

/// Flags of bundle.
#[derive(Args, Clone, Debug)]
pub struct BundleArgs {
    /// File to write; `-` is standard output. By default gpusetup-bundle-TIME.tar.gz, here
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
    /// Also where containers use what goes: they would not start again
    #[arg(long)]
    pub force: bool,
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

/// Commands on the CDI spec.
#[derive(Subcommand, Debug)]
pub enum Cdi {
    /// Print a spec of this host, or write it to a file
    Generate(Box<GenerateArgs>),
    /// Change the paths of a spec
    #[command(subcommand)]
    Transform(Transform),
    /// Names that `--device` takes
    List,
    /// Whether the specs of this host are sound and fresh; exits 2 if not
    Check,
    /// Write spec and inventory anew where they are stale; run at boot by gpusetup-cdi.service
    Refresh,
}

/// Commands on /etc/nvidia-container-runtime/config.toml.
#[derive(Subcommand, Debug)]
pub enum Config {
    /// Print the file; the defaults where there is none
    Show,
    /// Print every key with its default
    Default,
    /// Print one value
    Get {
        /// Such as `nvidia-container-runtime.mode`
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
    /// What to describe, and where it comes from
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
    /// Only these devices: index, UUID, `gpu:slice`, channel; repeatable, or a comma list
    #[arg(
        long = "device-id",
        aliases = ["device-ids", "device", "devices"],
        value_name = "ID",
        value_delimiter = ','
    )]
    pub devices: Vec<String>,
    /// No device `all` that is every device in one
    #[arg(long)]
    pub no_all_device: bool,
    /// Vendor, the part before the slash; each mode has its own
    #[arg(long, alias = "cdi-vendor", value_name = "NAME")]
    pub vendor: Option<String>,
    /// Class, the part between slash and `=`; each mode has its own
    #[arg(long, alias = "cdi-class", value_name = "NAME")]
    pub class: Option<String>,
    /// Where /dev is; by default the driver root if that has GPU nodes, else /
    #[arg(long, value_name = "DIR")]
    pub dev_root: Option<PathBuf>,
    /// Also look here for the driver's libraries, before the usual places; repeatable
    #[arg(long = "library-search-path", value_name = "DIR")]
    pub libraries: Vec<PathBuf>,
    /// Also look here for the driver's data files (vulkan/, glvnd/, …); repeatable
    #[arg(long = "config-search-path", value_name = "DIR")]
    pub configs: Vec<PathBuf>,
    /// On a Jetson, instead of the lists of the usual directory; repeatable
    #[arg(long = "csv-file", alias = "csv.file", value_name = "FILE")]
    pub csv_files: Vec<PathBuf>,
    /// Our hook's program, as the host that gets the spec has it
    #[arg(long, value_name = "FILE", default_value = gpu_inject::generate::HOOK_PATH)]
    pub hook_path: PathBuf,
    /// By default as the output's name ends, else YAML
    #[arg(long, value_enum)]
    pub format: Option<SpecFormat>,
    /// File, which gets .yaml or .json as its ending; `-` is standard output
    #[arg(long, short, default_value = "-")]
    pub output: PathBuf,
}

/// What a spec describes.
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
    /// `GPUDirect` Storage: /dev/nvidia-fs*
    Gds,
    /// `InfiniBand`: /dev/infiniband
    Mofed,
    /// `NVSwitch`: /dev/nvidia-nvswitch*
    Nvswitch,
    /// `GDRCopy`: /dev/gdrdrv
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
pub enum Transform {
    /// Move paths from one root to another
    Root {
        /// What they begin with
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// What they shall begin with
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// The spec; `-` is standard input
        #[arg(long, default_value = "-", value_name = "FILE")]
        input: PathBuf,
        /// File, which can be the same; `-` is standard output
        #[arg(long, short, default_value = "-", value_name = "FILE")]
        output: PathBuf,
        /// Paths by which the host has things, or by which a container sees them
        #[arg(long, value_enum, default_value = "host")]
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
pub enum System {
    /// Make the driver's nodes that are not there yet, as nvidia-modprobe would
    CreateDeviceNodes {
        /// Only those of no single GPU: nvidiactl, modeset, uvm, uvm-tools
        #[arg(long)]
        control_devices: bool,
        /// Where /dev is; by default the driver root if that has GPU nodes, else /
        #[arg(long, value_name = "DIR")]
        dev_root: Option<PathBuf>,
        /// Only say which
        #[arg(long)]
        dry_run: bool,
    },
    /// Make the links /dev/char/MAJOR:MINOR, without which a daemon-reload can take GPUs away
    CreateDevCharSymlinks {
        /// Only say which
        #[arg(long)]
        dry_run: bool,
    },
}
