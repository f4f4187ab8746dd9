//! The command line.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Try every way of getting a GPU into a container on this host, and report
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

const AFTER: &str = "\
Exit codes: 0 every way works; 2 one failed; 3 the host is not as it was before; 4 bad usage; 6 this host cannot do it (no \
root, no driver); 7 none failed, and not all could be shown; 130 interrupted.";

/// The default of --programs, a relative path that no user would give. It stands for the directory of this program.
pub(crate) const BESIDE: &str = "BESIDE-THIS-PROGRAM";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run all of it
    Run(Options),
    /// Lay a recording out as a host's root, and print what gpusetup finds on it
    Read {
        /// A directory `recording` of a report
        recording: PathBuf,
    },
    #[command(hide = true)]
    Isolate(Options),
    #[command(hide = true)]
    Init(Options),
    #[command(hide = true)]
    Work(Options),
}

/// The options of every process of a run.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Directory of the report; created if missing, must be empty
    #[arg(long, value_name = "DIR", default_value = "gpu-report")]
    pub(crate) output: PathBuf,
    /// Directory with gpusetup's files (`tree`), `gpu-run` and `gpu-probe`; by default the one of this program
    #[arg(long, value_name = "DIR", default_value = BESIDE, hide_default_value = true)]
    pub(crate) programs: PathBuf,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Use a fake driver with this many GPUs, on a host without a real one
    #[arg(long, value_name = "GPUS", num_args = 0..=1, default_missing_value = "2",
        value_parser = clap::value_parser!(u32).range(1..=8))]
    pub(crate) fake: Option<u32>,
    /// How many starts of each way are timed; 0 for none
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..=100))]
    pub(crate) rounds: u16,
    /// Seconds after which the run stops and reports what it has
    #[arg(long, value_name = "SECONDS", default_value_t = 110, value_parser = clap::value_parser!(u64).range(20..=3600))]
    pub(crate) limit: u64,
    /// Leave an engine out: docker, containerd, podman, runc or crun; may be repeated
    #[arg(long, value_name = "ENGINE", value_parser = ["docker", "containerd", "podman", "runc", "crun"])]
    pub(crate) without: Vec<String>,
    /// Keep UUIDs, serial numbers and the host's name in the report and the recording
    #[arg(long)]
    pub(crate) keep_identifiers: bool,
    /// When the run began; set for the processes of the run.
    #[arg(long, hide = true, default_value = "")]
    pub(crate) date: String,
    /// The run's control group; set for the processes of the run.
    #[arg(long, hide = true, default_value = "")]
    pub(crate) cgroup: String,
}

impl Options {
    /// The options as a command line for another process of the run, with the paths as resolved by the first.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut valued = |name: &str, value: &OsStr| {
            arguments.push(name.into());
            arguments.push(value.to_owned());
        };
        valued("--output", self.output.as_os_str());
        valued("--programs", self.programs.as_os_str());
        valued("--rounds", self.rounds.to_string().as_ref());
        valued("--limit", self.limit.to_string().as_ref());
        valued("--date", self.date.as_ref());
        valued("--cgroup", self.cgroup.as_ref());
        for engine in &self.without {
            valued("--without", engine.as_ref());
        }
        if let Some(gpus) = self.fake {
            valued("--fake", gpus.to_string().as_ref());
        }
        let flags = [
            ("--json", self.json),
            ("--keep-identifiers", self.keep_identifiers),
        ];
        arguments.extend(
            flags
                .into_iter()
                .filter(|(_, is)| *is)
                .map(|(name, _)| name.into()),
        );
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_survive_the_way_to_another_process() {
        let line = "gpu-run run --output /o --programs /p --fake 3 --rounds 4 --limit 60 --without podman \
                    --without crun --json --keep-identifiers --date now --cgroup /c";
        let Verb::Run(first) = Cli::try_parse_from(line.split_whitespace().filter(|w| *w != "\\"))
            .unwrap()
            .verb
        else {
            panic!("not run");
        };
        let again = ["gpu-run".into(), "run".into()]
            .into_iter()
            .chain(first.arguments());
        let Verb::Run(second) = Cli::try_parse_from(again).unwrap().verb else {
            panic!("not run");
        };
        assert_eq!(format!("{first:?}"), format!("{second:?}"));
        assert_eq!(
            (second.fake, second.without.len(), second.json),
            (Some(3), 2, true)
        );
    }
}
