//! Writes a flag or a command to which a message points. It is beside [`super::args`], which defines them, and its
//! test parses each of them.

use std::fmt;

use crate::error::invocation::Invocation;

impl fmt::Display for Invocation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yes => "--yes",
            Self::Root => "--root",
            Self::Engines => "--engine",
            Self::DefaultRuntime => "--default-runtime",
            Self::NoDefaultRuntime => "--no-default-runtime",
            Self::ByRuntimeOnly => "--mode runtime",
            Self::ByCdiOnly => "--mode cdi",
            Self::Adopt => "--existing adopt",
            Self::Leave => "--existing leave",
            Self::NoRestart => "--no-restart",
            Self::NoDaemonReload => "--no-daemon-reload",
            Self::Fix => "--fix",
            Self::DriverRoot => "--driver-root",
            Self::DriverRootAt(dir) => return write!(f, "--driver-root {}", dir.display()),
            Self::CsvFile => "--csv-file",
            Self::NamesByIndex => "--device-name-strategy index",
            Self::Install => "gpusetup install",
            Self::InstallAsRoot => "sudo gpusetup install",
            Self::InstallEngineAsRoot(name) => {
                return write!(f, "sudo gpusetup install --engine {name}");
            }
            Self::InstallAdopting => "gpusetup install --existing adopt",
            Self::InstallUnverified => "gpusetup install --no-verify",
            Self::Undo => "gpusetup undo",
            Self::UndoByForce => "gpusetup undo --force",
            Self::UndoLeavingRuntime => "gpusetup undo --leave-runtime",
            Self::Recover => "gpusetup recover",
            Self::RecoverGivingUp => "gpusetup recover --give-up",
            Self::Detect => "gpusetup detect",
            Self::CdiRefresh => "gpusetup cdi refresh",
            Self::CreateDeviceNodes => "gpusetup system create-device-nodes",
            Self::PlanAsRoot => "sudo gpusetup plan",
            Self::StatusAsRoot => "sudo gpusetup",
            Self::DoctorAsRoot => "sudo gpusetup doctor",
            Self::DetectAsRoot => "sudo gpusetup detect",
            Self::CdiList => "gpusetup cdi list",
            Self::CdiGenerateHelp => "gpusetup cdi generate --help",
            Self::ConfigSet(key, value) => return write!(f, "gpusetup config set {key}={value}"),
            Self::ConfigDefault => "gpusetup config default",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::error::ErrorKind;
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::args::Cli;

    #[test]
    fn each_is_one_that_the_command_line_takes() {
        use Invocation as I;
        // Flags of a command, with a command that has them and a value where they need one.
        for (flag, command, value) in [
            (I::Yes, "install", ""),
            (I::Root, "detect", "/x"),
            (I::Engines, "install", "docker"),
            (I::DefaultRuntime, "install", ""),
            (I::NoDefaultRuntime, "install", ""),
            (I::ByRuntimeOnly, "install", ""),
            (I::ByCdiOnly, "install", ""),
            (I::Adopt, "install", ""),
            (I::Leave, "install", ""),
            (I::NoRestart, "install", ""),
            (I::NoRestart, "undo", ""),
            (I::NoDaemonReload, "verify", ""),
            (I::Fix, "doctor", "x"),
            (I::DriverRoot, "detect", "/x"),
            (I::DriverRootAt(Path::new("/x")), "detect", ""),
            (I::CsvFile, "cdi generate", "/x"),
            (I::NamesByIndex, "cdi generate", ""),
        ] {
            parse(&format!("gpusetup {command} {flag} {value}"));
        }
        for command in [
            I::Install,
            I::InstallAsRoot,
            I::InstallEngineAsRoot("docker"),
            I::InstallAdopting,
            I::InstallUnverified,
            I::Undo,
            I::UndoByForce,
            I::UndoLeavingRuntime,
            I::Recover,
            I::RecoverGivingUp,
            I::Detect,
            I::CdiRefresh,
            I::CreateDeviceNodes,
            I::PlanAsRoot,
            I::StatusAsRoot,
            I::DoctorAsRoot,
            I::DetectAsRoot,
            I::CdiList,
            I::CdiGenerateHelp,
            I::ConfigSet("a.b", "c"),
            I::ConfigDefault,
        ] {
            parse(&command.to_string());
        }
    }

    fn parse(line: &str) {
        let line = line.strip_prefix("sudo ").unwrap_or(line);
        match Cli::try_parse_from(line.split_whitespace()) {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::DisplayHelp => {}
            Err(e) => panic!("{line}: {e}"),
        }
        Cli::command().debug_assert();
    }
}
