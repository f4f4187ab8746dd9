//! fake-driver: installs and removes the fake driver.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use fake_driver::describe::Description;
use fake_driver::install::{self, Places};
use fake_driver::live;

/// A stand-in NVIDIA driver for tests
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Put the driver into a root
    Install {
        /// The root; `/` only with --live
        #[arg(long)]
        root: PathBuf,
        /// Where in the root the user space goes
        #[arg(long, default_value = "/")]
        driver_root: PathBuf,
        /// This is a running host: mount the driver's part of proc and sysfs
        #[arg(long)]
        live: bool,
        /// Directory of the built libraries; by default the one of this program
        #[arg(long)]
        artifacts: Option<PathBuf>,
        #[command(flatten)]
        what: What,
    },
    /// After a reboot of a host with an installed driver: nodes, proc and sysfs, as its kernel module would
    Load,
    /// Take it out again
    Remove {
        /// The root it was put into
        #[arg(long)]
        root: PathBuf,
    },
    /// Print the description as TOML
    Describe {
        #[command(flatten)]
        what: What,
    },
}

#[derive(Args)]
struct What {
    /// Read a description instead of using the numbers below
    #[arg(long)]
    describe: Option<PathBuf>,
    /// Number of GPUs
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=64))]
    gpus: u32,
    /// Number of MIG slices on each
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=7))]
    mig: u32,
    /// Files of a few bytes, for a tree that is copied or packed; otherwise they are as large as a real driver's
    #[arg(long)]
    small: bool,
    /// Driver version
    #[arg(long, default_value = "580.65.06")]
    driver_version: String,
}

impl What {
    fn description(&self) -> Result<Description, String> {
        let Some(path) = &self.describe else {
            return Ok(Description {
                small: self.small,
                ..Description::of(&self.driver_version, self.gpus, self.mig)
            });
        };
        let name = path.display();
        let text = fs::read_to_string(path).map_err(|e| format!("{name}: {e}"))?;
        Description::from_toml(&text).map_err(|e| format!("{name}: {e}"))
    }
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("fake-driver: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(action: Action) -> Result<(), String> {
    let text = |e: std::io::Error| e.to_string();
    match action {
        Action::Describe { what } => {
            let made = toml::to_string(&what.description()?).map_err(|e| e.to_string())?;
            print!("{made}");
            Ok(())
        }
        Action::Load => {
            let description = install::load_nodes(Path::new("/")).map_err(text)?;
            live::unmount_trees();
            live::mount_trees(&description).map_err(text)
        }
        Action::Remove { root } => {
            if root == Path::new("/") {
                live::unmount_trees();
            }
            install::remove(&root).map_err(text)
        }
        Action::Install {
            root,
            driver_root,
            live,
            artifacts,
            what,
        } => {
            let root = root
                .canonicalize()
                .map_err(|e| format!("{}: {e}", root.display()))?;
            if (root == Path::new("/")) != live {
                return Err("--root / and --live go together".into());
            }
            let own = std::env::current_exe().map_err(text)?;
            let places = Places {
                root,
                driver_root,
                artifacts: Some(
                    artifacts
                        .unwrap_or_else(|| own.parent().map(PathBuf::from).unwrap_or_default()),
                ),
            };
            let description = what.description()?;
            install::install(&places, &description, live).map_err(text)?;
            if live {
                live::mount_trees(&description).map_err(text)?;
            }
            Ok(())
        }
    }
}
