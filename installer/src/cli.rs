//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::engines::{Existing, Mode};

/// Sets up GPU containers: detects, plans, applies, verifies and undoes
#[derive(Parser, Debug)]
#[command(name = "gpusetup", version, disable_help_subcommand = true)]
#[command(
    after_help = "Exit codes: 0 done or nothing to do, 1 failed and put back, 2 changes to make (plan),\n3 failed and not put back whole, 4 bad usage, 5 another run holds the lock, 6 host not supported."
)]
pub struct Cli {
    /// What to do; without it, the state of this host
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub common: Common,
}

/// Flags of every command.
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
    /// Back to before, keeping what you changed since
    #[command(alias = "uninstall")]
    Undo(UndoArgs),
    /// End a run that died: put back what it did; install and undo do this by themselves
    Recover,
    /// The CDI spec
    #[command(subcommand)]
    Cdi(Cdi),
    /// The policy file of the start path, with its comments kept
    #[command(subcommand)]
    Config(Config),
    /// Completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// The manual page, as roff
    Man,
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
}

/// Commands on the CDI spec.
#[derive(Subcommand, Debug)]
pub enum Cdi {
    /// Print the spec of this host, or write it to a file
    Generate {
        /// File; `-` is standard output
        #[arg(long, short, default_value = "-")]
        output: PathBuf,
    },
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
