//! The low-level runtimes that are known, and how a program and the state of a container are told to be of one of them.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::program_kind::{ProgramKind, has_command_with};
use crate::user_namespace::is_mapped;

/// youki's file beside its state.json, whose name is that of runc's (libcontainer/src/config.rs).
const YOUKIS_OWN: &str = "youki_config.json";

/// Low-level runtimes that understand each other's containers. No family understands those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RuntimeFamily {
    Runc,
    Crun,
    Youki,
    /// gVisor.
    Runsc,
}

/// Whether a program is a runtime of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Likeness {
    Sure,
    /// Nothing tells: a wrapper, or a name that is not known.
    Possible,
    /// It is a runtime of another family.
    Other,
}

impl RuntimeFamily {
    pub(super) const ALL: [Self; 4] = [Self::Runc, Self::Crun, Self::Youki, Self::Runsc];

    /// Its usual name, which names of variants contain: `docker-runc`, `crun-wasm`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Crun => "crun",
            Self::Youki => "youki",
            Self::Runsc => "runsc",
        }
    }

    fn is_written_in_go(self) -> bool {
        matches!(self, Self::Runc | Self::Runsc)
    }

    /// The file that shows that a runtime of this family has made this container, if it is there. `root` is the one on
    /// the command line.
    pub(super) fn state_file(self, root: Option<&Path>, id: &OsStr) -> Option<PathBuf> {
        let root = root.map_or_else(|| self.usual_root(), Path::to_owned);
        let dir = root.join(id);
        let file = match self {
            // libcontainer/factory_linux.go
            Self::Runc => dir.join("state.json"),
            // src/libcrun/status.c
            Self::Crun => dir.join("status"),
            Self::Youki => dir.join(YOUKIS_OWN),
            // runsc/container/state_file.go
            Self::Runsc => {
                let mut name = id.to_owned();
                name.push("_sandbox:");
                name.push(id);
                name.push(".state");
                root.join(name)
            }
        };
        let is_there = file.exists() && (self != Self::Runc || !dir.join(YOUKIS_OWN).exists());
        is_there.then_some(file)
    }

    /// Where it keeps its containers if the command line does not say so.
    fn usual_root(self) -> PathBuf {
        let users = env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
        let uses_users = match self {
            // main.go, shouldHonorXDGRuntimeDir: the host's root uses /run, whatever the variable says.
            Self::Runc => {
                let is_root = || env::var_os("USER").is_some_and(|user| user == "root");
                !geteuid().is_root() || is_mapped() && !is_root()
            }
            Self::Youki => !geteuid().is_root() || is_mapped(),
            Self::Crun | Self::Runsc => true,
        };
        let parent = users.filter(|_| uses_users).unwrap_or("/run".into());
        Path::new(&parent).join(self.name())
    }

    /// Whether this program is a runtime of this family. Engines and distributions install one runtime under the name
    /// of another, as a link, a copy or a script, so the name alone does not decide.
    pub(super) fn likeness(self, program: &Path) -> Likeness {
        let real = fs::canonicalize(program);
        let real = real.as_deref().unwrap_or(program);
        let named = Self::of_name(real.file_name().unwrap_or_default());
        let Some(named) = named else {
            return Likeness::Possible;
        };
        let kind = ProgramKind::of(real);
        let is_misnamed = match &kind {
            Ok(ProgramKind::Go) => !named.is_written_in_go(),
            Ok(ProgramKind::OtherBinary) => named.is_written_in_go(),
            Ok(ProgramKind::Script(_)) | Err(_) => false,
        };
        if named == self {
            return if is_misnamed {
                Likeness::Possible
            } else {
                Likeness::Sure
            };
        }
        let may_be_ours = match &kind {
            Ok(ProgramKind::Script(text)) => has_command_with(text, self.name()),
            // A copy of this one under that name.
            _ => is_misnamed && self.is_written_in_go() != named.is_written_in_go(),
        };
        if may_be_ours {
            Likeness::Possible
        } else {
            Likeness::Other
        }
    }

    fn of_name(name: &OsStr) -> Option<Self> {
        let name = name.to_string_lossy();
        Self::ALL.into_iter().find(|one| name.contains(one.name()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use Likeness::{Other, Possible, Sure};
    use RuntimeFamily::{Crun, Runc, Runsc, Youki};

    use super::*;

    const GO: &[u8] = b"\x7fELF\x04\0\0\0Go\0\0";
    const BINARY: &[u8] = b"\x7fELF";

    #[test]
    fn a_program_is_of_a_family_by_its_name_and_its_kind() {
        let dir = tempfile::tempdir().unwrap();
        let made = |name: &str, content: &[u8]| {
            fs::write(dir.path().join(name), content).unwrap();
            RuntimeFamily::ALL.map(|family| family.likeness(&dir.path().join(name)))
        };
        let script = b"#!/bin/sh\nexec /opt/c/crun --debug \"$@\"\n";
        let dumb = b"#!/bin/sh\nexec /opt/real/${0##*/} \"$@\"\n";
        let rows: [(&str, &[u8], [Likeness; 4]); 12] = [
            // runc, crun, youki, runsc
            ("runc", GO, [Sure, Other, Other, Other]),
            ("docker-runc.bak", GO, [Sure, Other, Other, Other]),
            ("crun", BINARY, [Other, Sure, Other, Other]),
            ("crun-1.28", BINARY, [Other, Sure, Other, Other]),
            ("youki", BINARY, [Other, Other, Sure, Other]),
            ("runsc", GO, [Other, Other, Other, Sure]),
            // A copy of crun, or a compiled wrapper of runc, as NixOS makes them.
            ("runc", BINARY, [Possible, Possible, Possible, Other]),
            ("crun", GO, [Possible, Possible, Other, Possible]),
            ("runc", script, [Sure, Possible, Other, Other]),
            ("crun", dumb, [Other, Sure, Other, Other]),
            ("site-runtime", dumb, [Possible; 4]),
            ("site-runtime", GO, [Possible; 4]),
        ];
        for (name, content, expected) in rows {
            assert_eq!(made(name, content), expected, "{name}: {content:?}");
        }
        // A link is what it leads to.
        made("crun", BINARY);
        let link = dir.path().join("linked/runc");
        fs::create_dir(dir.path().join("linked")).unwrap();
        symlink("../crun", &link).unwrap();
        assert_eq!(Crun.likeness(&link), Sure);
        assert_eq!(Runc.likeness(&link), Other);
    }

    #[test]
    fn each_family_knows_its_containers() {
        let root = tempfile::tempdir().unwrap();
        let files = [
            (Runc, "c1/state.json"),
            (Crun, "c2/status"),
            (Youki, "c3/youki_config.json"),
            (Runsc, "c4_sandbox:c4.state"),
        ];
        for (_, file) in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        fs::write(root.path().join("c3/state.json"), "").unwrap();
        for (family, file) in files {
            for id in ["c1", "c2", "c3", "c4", "none"] {
                let found = family.state_file(Some(root.path()), OsStr::new(id));
                let expected = file.starts_with(id).then(|| root.path().join(file));
                assert_eq!(found, expected, "{family:?} {id}");
            }
        }
    }
}
