//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser};

use crate::case::{Below, Gpus, Image, Other};

#[derive(Parser)]
#[command(name = "testenv/bench/start", disable_help_subcommand = true)]
/// Measure what a container start with GPUs costs, as root, on fake hosts that are removed afterwards
///
/// Measures whole lives (create, start, wait, delete), each case once a round in turn, and prints medians of the
/// differences within a round to the floor: the low-level runtime with the same edits in config.json already and
/// without a hook. docs/performance.md has the details.
pub(crate) enum Options {
    /// Measure, or show earlier figures
    Run(Box<Run>),
    /// Compare the build of this tree with another one, round by round
    Paired(PairedRun),
    /// Run one host; used by start-bench itself
    #[command(hide = true)]
    Host { options: String },
}

const AFTER: &str = "\
Builds of ours, instead of those of this tree:
      --gpu-container <FILE>         the static binary of shim and hooks
      --gpusetup <FILE>              what describes the hosts

On a machine that does other work, `nice -n -20` helps a little; `added CPU` says more there.";

#[derive(Args)]
#[command(args_override_self = true, after_help = AFTER)]
pub(crate) struct Run {
    /// Number of rounds; at least 31 for figures that are published
    #[arg(long, default_value_t = 31)]
    pub rounds: u32,
    /// Hosts: the number of GPUs, with MIG slices of each as in 64x7
    #[arg(long, value_delimiter = ',', default_value = "1,8,64,64x7")]
    pub gpus: Vec<Gpus>,
    /// Images
    #[arg(long, value_delimiter = ',', default_value = "tiny,debian,many")]
    pub image: Vec<Image>,
    /// Low-level runtimes
    #[arg(long, value_delimiter = ',', default_value = "runc,crun")]
    pub below: Vec<Below>,
    /// Another runtime to measure; not below /tmp, /run or /dev, which are the host's own
    #[arg(long, value_name = "NAME=PATH", value_parser = named)]
    pub runtime: Vec<Named>,
    /// Another program with `cdi generate`; its spec is used by that runtime, and is a case of its own
    #[arg(long, value_name = "NAME=PATH", value_parser = named)]
    pub cdi_generate: Vec<Named>,
    /// The hook program that its spec names
    #[arg(long, value_name = "NAME=PATH", value_parser = named)]
    pub cdi_hook: Vec<Named>,
    /// Its hook that accepts `prestart`
    #[arg(long, value_name = "NAME=PATH", value_parser = named)]
    pub prestart: Vec<Named>,
    /// A config.json to start with, such as an engine's [default: what `runc spec` makes]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Measure only times
    #[arg(long)]
    pub no_counts: bool,
    /// Write the figures as JSON to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw the figures into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Write the figures into performance.md and performance.svg in this directory
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = "docs")]
    pub docs: Option<PathBuf>,
    /// Measure nothing; read the figures from a file that --json wrote
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Directory of images and programs
    #[arg(long, value_name = "DIR", hide = true)]
    pub work: PathBuf,
    /// The Debian root file system, a tar archive
    #[arg(long, value_name = "FILE", hide = true)]
    pub debian: PathBuf,
}

/// Two builds of ours on hosts that are otherwise alike, in turn.
#[derive(Args)]
pub(crate) struct PairedRun {
    /// Number of rounds; in each, every case is run once with either build
    #[arg(long, default_value_t = 301)]
    pub rounds: u32,
    /// Hosts: the number of GPUs, with MIG slices of each as in 64x7
    #[arg(long, value_delimiter = ',', default_value = "1,8")]
    pub gpus: Vec<Gpus>,
    /// The image
    #[arg(long, default_value = "debian")]
    pub image: Image,
    /// Low-level runtimes
    #[arg(long, value_delimiter = ',', default_value = "crun,runc")]
    pub below: Vec<Below>,
    /// Write every pair as a line of a table to this file
    #[arg(long, value_name = "FILE")]
    pub raw: Option<PathBuf>,
    /// Directory of images and programs
    #[arg(long, value_name = "DIR", hide = true)]
    pub work: PathBuf,
    /// The Debian root file system, a tar archive
    #[arg(long, value_name = "FILE", hide = true)]
    pub debian: PathBuf,
}

/// A name and a path.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    name: String,
    path: String,
}

fn named(text: &str) -> Result<Named, String> {
    let (name, path) = text.split_once('=').ok_or("NAME=PATH is what it takes")?;
    let path = std::path::absolute(path).map_err(|e| e.to_string())?;
    Ok(Named {
        name: name.to_owned(),
        path: path.display().to_string(),
    })
}

impl Run {
    /// Other vendors' programs, by name.
    pub(crate) fn others(&self) -> Vec<Other> {
        type Field = fn(&mut Other) -> &mut Option<String>;
        let mut others: Vec<Other> = Vec::new();
        let lists: [(&[Named], Field); 4] = [
            (&self.runtime, |o| &mut o.runtime),
            (&self.cdi_generate, |o| &mut o.generator),
            (&self.cdi_hook, |o| &mut o.hook),
            (&self.prestart, |o| &mut o.prestart),
        ];
        for (list, field) in lists {
            for value in list {
                let at = others.iter().position(|o| o.name == value.name);
                let at = at.unwrap_or_else(|| {
                    others.push(Other {
                        name: value.name.clone(),
                        ..Other::default()
                    });
                    others.len() - 1
                });
                *field(&mut others[at]) = Some(value.path.clone());
            }
        }
        others
    }
}
