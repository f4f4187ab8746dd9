//! Provides as `nvidia-ctk` the commands that scripts and playbooks written for nvidia-container-toolkit call. A
//! command without a counterpart is refused with the reason, never ignored, so that a script does not assume success.
//!
//! The static program is started under that name; it runs hooks itself and executes gpusetup for all other commands.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::error::Error;

/// The name under which this program acts as nvidia-ctk.
const NAME: &str = "nvidia-ctk";

/// The program that runs hooks.
const HOOKS: &str = "/usr/lib/gpu-container/gpu-container";

/// The flags that name the hook's program for a spec, now and in earlier versions.
const HOOK_FLAGS: [&str; 2] = ["nvidia-cdi-hook-path", "nvidia-ctk-path"];

/// The meaning of a command line.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    /// A command line of gpusetup, beginning with the program's name.
    Ours(Vec<OsString>),
    /// Another of our programs, with its arguments.
    Hook(&'static str, Vec<OsString>),
}

/// The command line of gpusetup that this process was started with, under either name. If it means a hook, this
/// process executes the hook instead.
pub fn command_line(words: Vec<OsString>) -> Result<Vec<OsString>, Error> {
    let Some((program, rest)) = words.split_first().filter(|(first, _)| is_called(first)) else {
        return Ok(words);
    };
    log::debug!("called as {}", program.display());
    match meaning(rest)? {
        Meaning::Ours(words) => Ok(words),
        Meaning::Hook(program, args) => {
            let source = Command::new(program).args(args).exec();
            Err(Error::file(Path::new(program), "run")(source))
        }
    }
}

/// Whether a program with this name is `nvidia-ctk`.
fn is_called(program: &OsString) -> bool {
    Path::new(program).file_name() == Some(NAME.as_ref())
}

/// Translates a command line (flags of nvidia-container-toolkit 1.20, `cmd/nvidia-ctk`).
fn meaning(args: &[OsString]) -> Result<Meaning, Error> {
    let mut words = Words::read(args)?;
    let mut ours = Vec::new();
    // Its global flags; both forms of output are ours by default.
    words
        .take("debug")
        .is_some()
        .then(|| ours.push("--verbose".into()));
    words
        .take("d")
        .is_some()
        .then(|| ours.push("--verbose".into()));
    words
        .take("quiet")
        .is_some()
        .then(|| ours.push("--quiet".into()));
    if words.take("version").is_some() || words.take("v").is_some() {
        return Ok(Meaning::Ours(vec!["gpusetup".into(), "--version".into()]));
    }
    let wants_help = words.take("help").or_else(|| words.take("h")).is_some();
    let command = words.command.clone();
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    match command.as_slice() {
        // An older package has left the name as a link to us. A container must also start between two steps of an
        // upgrade.
        ["hook", ..] => {
            let hook = std::iter::once("hook".into());
            return Ok(Meaning::Hook(
                HOOKS,
                hook.chain(after(args, "hook")).collect(),
            ));
        }
        // The help of our command, into whose flags theirs are translated.
        ["runtime", ..] if wants_help => return Ok(help_of("install")),
        ["config", ..] if wants_help => return Ok(help_of("config")),
        ["info"] if wants_help => return Ok(help_of("detect")),
        ["cdi" | "system"] if wants_help => {
            return Ok(Meaning::Ours(same_command(args, &command, &ours)));
        }
        ["runtime", "configure"] => configure(&mut words, &mut ours)?,
        ["cdi", "generate"] => {
            let args = hook_path(args, is_our_hook)?;
            return Ok(Meaning::Ours(same_command(&args, &command, &ours)));
        }
        // These commands have the same flags in both programs.
        ["cdi", "list"] | ["cdi", "transform", "root"] | ["system", _] => {
            return Ok(Meaning::Ours(same_command(args, &command, &ours)));
        }
        ["config", "default" | "create-default" | "generate-default"] => {
            ours.extend(["config", "default"].map(Into::into));
        }
        ["config"] => config(&mut words, &mut ours)?,
        ["info"] => ours.push("detect".into()),
        [] => ours.push("--help".into()),
        other => {
            return Err(Error::Usage(format!(
                "nvidia-ctk {}: gpusetup has no such command",
                other.join(" ")
            )));
        }
    }
    words.all_taken()?;
    ours.insert(0, "gpusetup".into());
    Ok(Meaning::Ours(ours))
}

fn help_of(command: &str) -> Meaning {
    Meaning::Ours(["gpusetup", command, "--help"].map(Into::into).to_vec())
}

/// Configures one engine and, like nvidia-ctk, restarts none.
fn configure(words: &mut Words, ours: &mut Vec<OsString>) -> Result<(), Error> {
    let engine = words.value("runtime").unwrap_or_else(|| "docker".into());
    if !["docker", "containerd", "crio"].contains(&engine.as_str()) {
        return Err(Error::Usage(format!(
            "nvidia-ctk runtime configure --runtime={engine}: unrecognized runtime; docker, containerd and crio are known. \
             Podman needs none: it reads the CDI spec"
        )));
    }
    let dry = words.flag(&["dry-run"])?;
    ours.push(if dry { "plan".into() } else { "install".into() });
    if !dry {
        ours.push("--yes".into());
    }
    ours.extend(["--engine".into(), engine.into()]);
    ours.extend(["--no-restart", "--no-verify"].map(Into::into));
    if words.flag(&["nvidia-set-as-default", "set-as-default"])? {
        ours.push("--default-runtime".into());
    }
    // gpusetup enables CDI in every engine that has it.
    let _ = words.flag(&["cdi.enabled", "cdi.enable", "enable-cdi"])?;
    for (flag, default) in [
        ("nvidia-runtime-name", "nvidia"),
        ("config-source", "file"),
        ("config-mode", "config-file"),
    ] {
        let value = words.value(flag);
        if value
            .as_deref()
            .is_some_and(|g| g != default && !g.is_empty())
        {
            return Err(no_counterpart(flag));
        }
    }
    Ok(())
}

fn config(words: &mut Words, ours: &mut Vec<OsString>) -> Result<(), Error> {
    ours.push("config".into());
    let sets = words.values("set");
    let in_place = words.flag(&["in-place", "i"])?;
    match (sets.is_empty(), in_place) {
        (true, false) => ours.push("show".into()),
        (true, true) => ours.push("set".into()),
        (false, true) => {
            ours.push("set".into());
            ours.extend(sets.into_iter().map(OsString::from));
        }
        (false, false) => {
            ours.extend(["set", "--dry-run"].map(Into::into));
            ours.extend(sets.into_iter().map(OsString::from));
        }
    }
    Ok(())
}

/// Translates the flag for the program that a spec names as its hook. Any program but our own is refused: it would
/// not understand the arguments in our spec, and containers would lack their links.
fn hook_path(args: &[OsString], is_ours: impl Fn(&Path) -> bool) -> Result<Vec<OsString>, Error> {
    let mut ours = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let text = arg.to_string_lossy();
        let flag = text.trim_start_matches('-');
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag, None),
        };
        if !text.starts_with('-') || !HOOK_FLAGS.contains(&name) {
            ours.push(arg.clone());
            continue;
        }
        let path = match value {
            Some(value) => value.into(),
            None => rest.next().cloned().unwrap_or_default(),
        };
        if path.is_empty() {
            continue;
        }
        if !is_ours(Path::new(&path)) {
            return Err(Error::Usage(format!(
                "nvidia-ctk --{name}: {} is not gpusetup's hook here, and no other program knows what its spec asks for; \
                 leave the flag out, or say where the host that gets the spec has it: gpusetup cdi generate --hook-path FILE",
                path.display()
            )));
        }
        ours.extend(["--hook-path".into(), path]);
    }
    Ok(ours)
}

/// Whether a program is the one behind all names of the start path.
fn is_our_hook(path: &Path) -> bool {
    let target = path.canonicalize();
    target.is_ok_and(|p| Path::new(HOOKS).canonicalize().is_ok_and(|ours| ours == p))
}

fn no_counterpart(flag: &str) -> Error {
    Error::Usage(format!(
        "nvidia-ctk --{flag}: gpusetup decides that by the engine it finds; run gpusetup plan to see what it would do"
    ))
}

/// Our global flags, then the command and everything after it unchanged.
fn same_command(args: &[OsString], command: &[&str], globals: &[OsString]) -> Vec<OsString> {
    let mut ours: Vec<OsString> = vec!["gpusetup".into()];
    ours.extend_from_slice(globals);
    let first = command.first().copied().unwrap_or_default();
    ours.push(first.into());
    ours.extend(after(args, first));
    ours
}

fn after(args: &[OsString], word: &str) -> Vec<OsString> {
    let rest = args.iter().skip_while(|a| *a != word).skip(1);
    rest.cloned().collect()
}

/// A parsed command line: the command, and flags with one dash or two.
struct Words {
    command: Vec<String>,
    flags: Vec<(String, String)>,
}

/// Flags without a value; every other flag has one.
const ALONE: [&str; 17] = [
    "debug",
    "d",
    "quiet",
    "version",
    "v",
    "help",
    "h",
    "dry-run",
    "nvidia-set-as-default",
    "set-as-default",
    "cdi.enabled",
    "cdi.enable",
    "enable-cdi",
    "in-place",
    "i",
    "no-all-device",
    "control-devices",
];

impl Words {
    fn read(args: &[OsString]) -> Result<Self, Error> {
        let mut words = Self {
            command: Vec::new(),
            flags: Vec::new(),
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let text = arg.to_str().ok_or_else(|| {
                Error::Usage(format!("nvidia-ctk: {} is not UTF-8", arg.display()))
            })?;
            let Some(flag) = text.strip_prefix('-') else {
                words.command.push(text.to_owned());
                continue;
            };
            let flag = flag.trim_start_matches('-');
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, value),
                None if ALONE.contains(&flag) => (flag, "true"),
                None => (
                    flag,
                    args.next().and_then(|v| v.to_str()).unwrap_or_default(),
                ),
            };
            words.flags.push((name.to_owned(), value.to_owned()));
        }
        Ok(words)
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.flags.iter().position(|(n, _)| n == name)?;
        Some(self.flags.remove(at).1)
    }

    /// A flag that is on, off (`=false`) or absent.
    fn flag(&mut self, names: &[&str]) -> Result<bool, Error> {
        let mut on = false;
        for name in names {
            while let Some(value) = self.take(name) {
                on = match value.as_str() {
                    "true" | "1" => true,
                    "false" | "0" => false,
                    other => {
                        let why = format!("nvidia-ctk --{name}={other}: neither true nor false");
                        return Err(Error::Usage(why));
                    }
                };
            }
        }
        Ok(on)
    }

    /// The last value of a flag.
    fn value(&mut self, name: &str) -> Option<String> {
        self.values(name).pop()
    }

    fn values(&mut self, name: &str) -> Vec<String> {
        std::iter::from_fn(|| self.take(name)).collect()
    }

    fn all_taken(&self) -> Result<(), Error> {
        match self.flags.first() {
            Some((flag, _)) => Err(no_counterpart(flag)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<String, Error> {
        let args: Vec<OsString> = line.split_whitespace().map(Into::into).collect();
        meaning(&args).map(|meaning| match meaning {
            Meaning::Ours(words) => words.join(" ".as_ref()).into_string().unwrap(),
            Meaning::Hook(program, words) => {
                format!("{program} {}", words.join(" ".as_ref()).to_str().unwrap())
            }
        })
    }

    #[test]
    fn runtime_configure_sets_up_one_engine_and_restarts_none() {
        for (theirs, ours) in [
            ("", "install --yes --engine docker --no-restart --no-verify"),
            (
                "--runtime=containerd --set-as-default --cdi.enabled",
                "install --yes --engine containerd --no-restart --no-verify --default-runtime",
            ),
            (
                "--runtime crio --dry-run --nvidia-set-as-default=false",
                "plan --engine crio --no-restart --no-verify",
            ),
        ] {
            let line = format!("runtime configure {theirs}");
            assert_eq!(of(&line).unwrap(), format!("gpusetup {ours}"), "{line}");
        }
    }

    #[test]
    fn options_without_a_counterpart_are_refused() {
        for line in [
            "runtime configure --runtime=podman",
            "runtime configure --config=/tmp/x",
            "runtime configure --drop-in-config=",
            "runtime configure --nvidia-runtime-name=gpu",
            "runtime configure --config-mode=oci-hook",
            "runtime configure --dry-run=perhaps",
            "runtime remove",
            "config --output /tmp/x",
        ] {
            assert!(of(line).is_err(), "{line}");
        }
    }

    #[test]
    fn only_our_program_is_accepted_as_a_specs_hook() {
        let ours = |path: &Path| path == "/usr/bin/nvidia-cdi-hook";
        let of = |line: &str| {
            let args: Vec<OsString> = line.split(' ').map(Into::into).collect();
            let taken = hook_path(&args, ours);
            taken.map(|words| words.join(" ".as_ref()).into_string().unwrap())
        };
        for (theirs, wanted) in [
            (
                "cdi generate --nvidia-cdi-hook-path=/usr/bin/nvidia-cdi-hook --format json",
                "cdi generate --hook-path /usr/bin/nvidia-cdi-hook --format json",
            ),
            (
                "cdi generate -nvidia-ctk-path /usr/bin/nvidia-cdi-hook",
                "cdi generate --hook-path /usr/bin/nvidia-cdi-hook",
            ),
            (
                "cdi generate --nvidia-cdi-hook-path= --output=x",
                "cdi generate --output=x",
            ),
        ] {
            assert_eq!(of(theirs).unwrap(), wanted, "{theirs}");
        }
        assert!(of("cdi generate --nvidia-ctk-path=/usr/bin/nvidia-ctk").is_err());
        // A path that does not exist is not one of our programs.
        assert!(super::tests::of("cdi generate --nvidia-cdi-hook-path=/no/such").is_err());
    }

    #[test]
    fn commands_with_the_same_flags_are_passed_on_unchanged() {
        for (theirs, ours) in [
            (
                "--debug cdi generate --output=/var/run/cdi/nvidia.yaml --device-name-strategy index",
                "--verbose cdi generate --output=/var/run/cdi/nvidia.yaml --device-name-strategy index",
            ),
            ("cdi list", "cdi list"),
            (
                "cdi transform root --from /a --to /b --input=-",
                "cdi transform root --from /a --to /b --input=-",
            ),
            (
                "-q system create-device-nodes --control-devices",
                "system create-device-nodes --control-devices",
            ),
            (
                "config --set a.b=1 --set c=x --in-place",
                "config set a.b=1 c=x",
            ),
            ("config --set a.b=1", "config set --dry-run a.b=1"),
            ("config", "config show"),
            ("config default", "config default"),
            ("info", "detect"),
            ("--version", "--version"),
        ] {
            let theirs = theirs.replace("-q ", "");
            assert_eq!(of(&theirs).unwrap(), format!("gpusetup {ours}"), "{theirs}");
        }
    }

    #[test]
    fn help_is_that_of_our_commands() {
        for (theirs, ours) in [
            ("--help", "--help"),
            ("-h", "--help"),
            ("runtime --help", "install --help"),
            (
                "runtime configure --runtime=docker --help",
                "install --help",
            ),
            ("config -h", "config --help"),
            ("info --help", "detect --help"),
            ("cdi --help", "cdi --help"),
            (
                "system create-device-nodes --help",
                "system create-device-nodes --help",
            ),
        ] {
            assert_eq!(of(theirs).unwrap(), format!("gpusetup {ours}"), "{theirs}");
        }
    }

    #[test]
    fn hooks_are_passed_to_the_start_path() {
        assert_eq!(
            of("--quiet hook create-symlinks --link a::/b").unwrap(),
            "/usr/lib/gpu-container/gpu-container hook create-symlinks --link a::/b"
        );
    }

    #[test]
    fn nvidia_ctk_is_recognized_only_by_its_name() {
        assert!(is_called(&"/usr/lib/gpu-container/bin/nvidia-ctk".into()));
        assert!(!is_called(&"/usr/bin/gpusetup".into()));
    }
}
