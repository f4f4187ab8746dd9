//! Parses flags in the forms that nvidia-cdi-hook accepts: `--flag value`, `--flag=value`, one dash or two.

use std::path::{Path, PathBuf};

use gpu_inject::oci::Arrangement;
use gpu_inject::{Edits, Error, Excerpt, oci};

use crate::oci_bundle::HookState;

/// The values of a hook's flags, in order.
#[derive(Debug, Default)]
pub(super) struct Flags {
    values: Vec<(String, String)>,
}

impl Flags {
    /// Parses flags. Every flag must be one of `known`; all have a value.
    pub(super) fn read(hook: &str, args: &[String], known: &[&str]) -> Result<Self, Error> {
        let bad = |what: String| Error::State(format!("{hook}: {what}").into());
        let mut flags = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let name = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'));
            let name = name.ok_or_else(|| bad(format!("{:?} is no flag", Excerpt::of(arg))))?;
            let (name, inline) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            if name != SPEC && !known.contains(&name) {
                return Err(bad(format!("unknown flag {:?}", Excerpt::of(arg))));
            }
            let value = inline.or_else(|| args.next().cloned());
            let value = value.ok_or_else(|| bad(format!("{} needs a value", Excerpt::of(arg))))?;
            flags.values.push((name.to_owned(), value));
        }
        Ok(flags)
    }

    /// Every value of one flag.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.values
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// The last value of one flag, if it is not empty.
    pub(super) fn last(&self, name: &str) -> Option<&str> {
        let value = self.values.iter().rev().find(|(n, _)| n == name);
        value.map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// The container's state, from the file of `--container-spec` or from standard input.
    pub(super) fn state(&self) -> Result<HookState, Error> {
        HookState::from(self.last(SPEC).map(Path::new))
    }
}

/// Facts about the container among the arguments of our own hook, besides the edits.
pub(super) struct HookInput {
    pub(super) state: HookState,
    /// The path of the root file system in config.json, relative to the bundle.
    pub(super) rootfs: Option<PathBuf>,
    /// Facts about mounts from config.json, if the shim has passed them.
    pub(super) arrangement: Arrangement,
}

impl HookInput {
    /// Facts about the container's mounts, looked up only if they matter to these edits.
    pub(super) fn arrangement(&self, edits: &Edits) -> Arrangement {
        let is_of_shim = self.rootfs.is_some();
        let wants_dev = !edits.links_by_nodes.is_empty();
        if is_of_shim || (!wants_dev && edits.mounted.is_empty()) {
            return self.arrangement;
        }
        self.state.bundle.arrangement(wants_dev)
    }

    /// The remaining arguments.
    pub(super) fn read(args: Vec<String>) -> Result<(Self, Vec<String>), Error> {
        let mut rest = Vec::with_capacity(args.len());
        let (mut file, mut rootfs) = (None, None);
        let mut arrangement = Arrangement::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            if arg == "--container-spec" {
                file = args.next().map(PathBuf::from);
            } else if let Some(path) = arg.strip_prefix("--container-spec=") {
                file = Some(PathBuf::from(path));
            } else if arg == oci::ROOTFS_FLAG {
                rootfs = args.next().filter(|p| !p.is_empty()).map(PathBuf::from);
            } else if arg == oci::OWN_DEV_FLAG {
                arrangement.own_dev = true;
            } else if arg == oci::NO_SHARED_FLAG {
                arrangement.no_shared_mounts = true;
            } else {
                rest.push(arg);
            }
        }
        let state = HookState::from(file.as_deref())?;
        let input = Self {
            state,
            rootfs,
            arrangement,
        };
        Ok((input, rest))
    }
}

const SPEC: &str = "container-spec";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Flags, Error> {
        let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Flags::read("hook", &args, &["link", "mode"])
    }

    #[test]
    fn both_forms_and_both_dashes() {
        let flags = read("--link a --link=b=c -link d -mode=755 --container-spec /s").unwrap();
        assert_eq!(flags.all("link").collect::<Vec<_>>(), ["a", "b=c", "d"]);
        assert_eq!(flags.last("mode"), Some("755"));
        assert_eq!(flags.last("none"), None);
    }

    #[test]
    fn an_unknown_flag_of_a_known_hook_is_refused() {
        for line in ["--odd x", "link", "--link", "--mode"] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
