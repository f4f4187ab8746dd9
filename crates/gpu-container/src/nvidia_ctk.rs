//! `nvidia-ctk`: its hooks are run here, all else is gpusetup's.
//!
//! CDI specs of the device plugin, the GPU Operator and older toolkits name `nvidia-ctk hook …`.
//! Without an environment of its own a hook gets that of the image, and then the loader of a
//! dynamic program runs what `LD_PRELOAD` names, as root, before its first line
//! (CVE-2025-23266). So this program, which has no loader, has the name.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::exit::ExitCode;
use crate::{hook, log};

/// By this name gpusetup takes their command lines.
const NAME: &str = "nvidia-ctk";

/// Where packages put gpusetup.
const GPUSETUP: &str = "/usr/bin/gpusetup";

/// As a shell has it for a program that is not there.
const NOT_INSTALLED: u8 = 127;

/// Flags before the command that have a value; all others of theirs stand alone
/// (nvidia-container-toolkit 1.20, `cmd/nvidia-ctk`).
const WITH_VALUE: [&str; 2] = ["config", "config-file"];

/// Variables that glibc's loader and its start-up act on: ld.so(8), "ENVIRONMENT", and
/// `sysdeps/generic/unsecvars.h`, which is what it drops in a set-user-ID program (TMPDIR stays, which
/// only gpusetup itself reads). Those that begin with [`LOADER_PREFIX`] besides.
const LOADER: [&str; 15] = [
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

/// Runs a hook, or becomes gpusetup.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    match command(args) {
        Some((word, rest)) if word == "hook" => hook::run(rest.to_vec()),
        _ => hand_over(args),
    }
}

/// The command and what follows it.
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

/// gpusetup is dynamic, and a CDI spec can name this program with any command: whoever started
/// us, nothing that its loader acts on goes along. Nothing is looked for on PATH.
fn hand_over(args: &[OsString]) -> ExitCode {
    let program = gpusetup();
    let kept = std::env::vars_os().filter(|(name, _)| !is_loaders(name));
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

fn is_loaders(name: &OsStr) -> bool {
    name.as_bytes().starts_with(LOADER_PREFIX) || LOADER.iter().any(|l| name == *l)
}

/// Of the same installation as this program, whose place is `PREFIX/lib/gpu-container`.
fn gpusetup() -> PathBuf {
    fs::read_link("/proc/self/exe")
        .ok()
        .and_then(|own| beside(&own))
        .unwrap_or_else(|| GPUSETUP.into())
}

fn beside(own: &Path) -> Option<PathBuf> {
    let lib = own.parent()?.parent()?;
    let is_laid_out = own.ends_with("lib/gpu-container/gpu-container");
    is_laid_out.then(|| lib.with_file_name("bin").join("gpusetup"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Option<String> {
        let args: Vec<OsString> = line.split_whitespace().map(Into::into).collect();
        let (word, rest) = command(&args)?;
        Some(format!("{} {}", word.display(), rest.len()))
    }

    #[test]
    fn the_command_is_found_behind_every_global_flag() {
        for (line, found) in [
            ("hook chmod --mode 755", Some("hook 3")),
            ("--quiet --debug -d hook noop", Some("hook 1")),
            ("--quiet=true hook noop", Some("hook 1")),
            ("--config-file /x hook noop", Some("hook 1")),
            ("-config-file=/x hook noop", Some("hook 1")),
            // No hook is called so, and none is run.
            ("cdi hook", Some("cdi 1")),
            ("--config-file hook cdi list", Some("cdi 1")),
            ("--version", None),
            ("--config-file", None),
            ("", None),
        ] {
            assert_eq!(of(line).as_deref(), found, "{line}");
        }
    }

    #[test]
    fn nothing_that_a_loader_acts_on_is_handed_over() {
        for name in [
            "LD_PRELOAD",
            "LD_AUDIT",
            "LD_",
            "GCONV_PATH",
            "GLIBC_TUNABLES",
        ] {
            assert!(is_loaders(name.as_ref()), "{name}");
        }
        for name in ["PATH", "HOME", "LDFLAGS", "LANG", "TMPDIR_X"] {
            assert!(!is_loaders(name.as_ref()), "{name}");
        }
    }

    #[test]
    fn gpusetup_is_that_of_the_same_installation() {
        let of = |own: &str| beside(Path::new(own));
        let usual = of("/usr/lib/gpu-container/gpu-container");
        assert_eq!(usual.as_deref(), Some(Path::new(GPUSETUP)));
        let nix = of("/nix/store/x/lib/gpu-container/gpu-container");
        assert_eq!(nix.as_deref(), Some(Path::new("/nix/store/x/bin/gpusetup")));
        assert_eq!(of("/tmp/gpu-container"), None);
    }
}
