//! `nvidia-ctk`: runs the hooks itself and passes all other commands on to gpusetup.
//!
//! CDI specs of the device plugin, the GPU Operator and older toolkits call `nvidia-ctk hook …`. A
//! hook without an environment of its own may get that of the image. The loader of a dynamic
//! program then runs what `LD_PRELOAD` names, as root, before `main` (CVE-2025-23266). Therefore
//! this static program, which has no loader, has the name.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::exit::ExitCode;
use crate::{hook, log};

/// The program name by which gpusetup accepts the vendor's command lines.
const NAME: &str = "nvidia-ctk";

/// The path of gpusetup in packages.
const GPUSETUP: &str = "/usr/bin/gpusetup";

/// The exit code of a shell for a program that does not exist.
const NOT_INSTALLED: u8 = 127;

/// Global flags that take a value; the vendor's others take none (nvidia-container-toolkit 1.20,
/// `cmd/nvidia-ctk`).
const WITH_VALUE: [&str; 2] = ["config", "config-file"];

/// Variables that affect glibc's loader and start-up, besides those with [`LOADER_PREFIX`]: ld.so(8),
/// "ENVIRONMENT", and `sysdeps/generic/unsecvars.h`, the list that it drops in set-user-ID programs.
/// TMPDIR is not in this list because only gpusetup itself reads it.
const LOADER_VARIABLES: [&str; 15] = [
    "GCONV_PATH",
    "GETCONF_DIR",
    "GLIBC_TUNABLES",
    "HOSTALIASES",
    "LOCALDOMAIN",
    "LOCPATH",
    "MALLOC_ARENA_MAX",
    "MALLOC_CHECK_",
    "MALLOC_PERTURB_",
    "MALLOC_TRACE",
    "NIS_PATH",
    "NLSPATH",
    "RESOLV_HOST_CONF",
    "RES_OPTIONS",
    "TZDIR",
];
const LOADER_PREFIX: &[u8] = b"LD_";

/// Runs a hook, or executes gpusetup.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    match command(args) {
        Some((word, rest)) if word == "hook" => hook::run(rest.to_vec()),
        _ => exec_gpusetup(args),
    }
}

/// The command and its arguments.
fn command(args: &[OsString]) -> Option<(&OsStr, &[OsString])> {
    let mut rest = args;
    while let Some((word, after)) = rest.split_first() {
        let Some(flag) = word.as_bytes().strip_prefix(b"-") else {
            return Some((word, after));
        };
        let flag = flag.strip_prefix(b"-").unwrap_or(flag);
        let has_value = WITH_VALUE.iter().any(|f| f.as_bytes() == flag);
        rest = after.get(usize::from(has_value)..).unwrap_or_default();
    }
    None
}

/// Executes gpusetup. It is a dynamic program, and a CDI spec can call us with any command, so the
/// variables that affect its loader are always removed. PATH is not searched.
fn exec_gpusetup(args: &[OsString]) -> ExitCode {
    let program = gpusetup();
    let kept = std::env::vars_os().filter(|(name, _)| !affects_loader(name));
    let failed = Command::new(&program)
        .arg0(NAME)
        .args(args)
        .env_clear()
        .envs(kept)
        .exec();
    let program = program.display();
    if failed.kind() == std::io::ErrorKind::NotFound {
        log::say(&format!(
            "{NAME}: {program} is not there, and `{NAME} hook` alone works without it; install the package gpusetup"
        ));
        return ExitCode::from(NOT_INSTALLED);
    }
    log::say(&format!("{NAME}: {program}: {failed}"));
    ExitCode::FAILURE
}

fn affects_loader(name: &OsStr) -> bool {
    name.as_bytes().starts_with(LOADER_PREFIX) || LOADER_VARIABLES.iter().any(|l| name == *l)
}

/// The gpusetup of the same installation as this program, which is in `PREFIX/lib/gpu-container`.
fn gpusetup() -> PathBuf {
    fs::read_link("/proc/self/exe")
        .ok()
        .and_then(|own| gpusetup_of(&own))
        .unwrap_or_else(|| GPUSETUP.into())
}

fn gpusetup_of(program: &Path) -> Option<PathBuf> {
    let lib = program.parent()?.parent()?;
    let is_installed = program.ends_with("lib/gpu-container/gpu-container");
    is_installed.then(|| lib.with_file_name("bin").join("gpusetup"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command_of(line: &str) -> Option<String> {
        let args: Vec<OsString> = line.split_whitespace().map(Into::into).collect();
        let (word, rest) = command(&args)?;
        Some(format!("{} {}", word.display(), rest.len()))
    }

    #[test]
    fn the_command_is_found_after_every_global_flag() {
        for (line, expected) in [
            ("hook chmod --mode 755", Some("hook 3")),
            ("--quiet --debug -d hook noop", Some("hook 1")),
            ("--quiet=true hook noop", Some("hook 1")),
            ("--config-file /x hook noop", Some("hook 1")),
            ("-config-file=/x hook noop", Some("hook 1")),
            // `hook` is not the command here, so no hook is run.
            ("cdi hook", Some("cdi 1")),
            ("--config-file hook cdi list", Some("cdi 1")),
            ("--version", None),
            ("--config-file", None),
            ("", None),
        ] {
            assert_eq!(command_of(line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn variables_that_affect_the_loader_are_recognized() {
        for name in [
            "LD_PRELOAD",
            "LD_AUDIT",
            "LD_",
            "GCONV_PATH",
            "GLIBC_TUNABLES",
        ] {
            assert!(affects_loader(name.as_ref()), "{name}");
        }
        for name in ["PATH", "HOME", "LDFLAGS", "LANG", "TMPDIR_X"] {
            assert!(!affects_loader(name.as_ref()), "{name}");
        }
    }

    #[test]
    fn gpusetup_is_the_one_of_the_same_installation() {
        let for_program = |own: &str| gpusetup_of(Path::new(own));
        let usual = for_program("/usr/lib/gpu-container/gpu-container");
        assert_eq!(usual.as_deref(), Some(Path::new(GPUSETUP)));
        let nix = for_program("/nix/store/x/lib/gpu-container/gpu-container");
        assert_eq!(nix.as_deref(), Some(Path::new("/nix/store/x/bin/gpusetup")));
        assert_eq!(for_program("/tmp/gpu-container"), None);
    }
}
