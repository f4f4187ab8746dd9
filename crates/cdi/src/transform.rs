//! Changes the root of paths in a spec, for instance for a driver container whose root is in another
//! directory on the host.
//!
//! The rules, and thus the results, are those of `nvidia-ctk cdi transform root` 1.20: a path is
//! changed if it is `from` or below it; only whole components match.

use std::path::{Path, PathBuf};

use crate::spec::{ContainerEdits, Hook, Spec};

/// Whose paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelativeTo {
    /// Paths on the host.
    Host,
    /// Paths in the container.
    Container,
}

/// A change of the root of paths.
#[derive(Clone, Debug)]
pub struct Transform {
    /// The current root.
    pub from: PathBuf,
    /// The new root.
    pub to: PathBuf,
    /// Which paths are changed.
    pub relative_to: RelativeTo,
    /// Flags of createContainer hooks with a path of the host's behind them, and how many words are between. Of one with
    /// none between, `FLAG=PATH` stands for the same path on the host and in the container.
    pub host_path_behind: &'static [(&'static str, usize)],
}

impl Transform {
    /// Changes the spec. Its version is raised if the new paths need it.
    pub fn apply(&self, spec: &mut Spec) {
        self.edits(&mut spec.container_edits);
        for device in &mut spec.devices {
            self.edits(&mut device.container_edits);
        }
        let number = |v: &str| crate::version::KNOWN.iter().position(|k| *k == v);
        let least = spec.minimum_version();
        if number(spec.cdi_version.trim_start_matches('v')) < number(least) {
            spec.cdi_version = least.to_owned();
        }
    }

    fn edits(&self, edits: &mut ContainerEdits) {
        for node in &mut edits.device_nodes {
            match self.relative_to {
                RelativeTo::Host => {
                    let host = node.host_path.as_ref().unwrap_or(&node.path);
                    if let Some(moved) = self.moved(host) {
                        node.host_path = Some(moved).filter(|m| *m != node.path);
                    }
                }
                RelativeTo::Container => {
                    // The host path stays, so it must be made explicit if it was implied by `path`.
                    if let Some(moved) = self.moved(&node.path) {
                        let host = std::mem::replace(&mut node.path, moved);
                        node.host_path.get_or_insert(host);
                    }
                }
            }
        }
        for mount in &mut edits.mounts {
            let path = match self.relative_to {
                RelativeTo::Host => &mut mount.host_path,
                RelativeTo::Container => &mut mount.container_path,
            };
            if let Some(moved) = self.moved(path) {
                *path = moved;
            }
        }
        edits.hooks.iter_mut().for_each(|hook| self.hook(hook));
    }

    /// Changes a hook. A startContainer hook runs in the container, and a createContainer hook has
    /// container paths in its arguments (OCI runtime specification 1.2, "POSIX-platform Hooks").
    fn hook(&self, hook: &mut Hook) {
        let runs_in_container = hook.hook_name == "startContainer";
        let has_container_paths = runs_in_container || hook.hook_name == "createContainer";
        let is_container = self.relative_to == RelativeTo::Container;
        if runs_in_container == is_container
            && let Some(moved) = self.moved(&hook.path)
        {
            hook.path = moved;
        }
        self.separate_paths(&mut hook.args);
        let mut host_in = None;
        for argument in &mut hook.args {
            let is_of_container = has_container_paths && host_in != Some(0);
            if is_of_container == is_container {
                *argument = self.argument(argument);
            }
            host_in = match self
                .host_path_behind
                .iter()
                .find(|(flag, _)| argument == flag)
            {
                Some((_, words)) => Some(*words),
                None => host_in.and_then(|words: usize| words.checked_sub(1)),
            };
        }
    }

    /// Gives the host and the container a path each where `FLAG=PATH` stands for both and one of them is to change.
    fn separate_paths(&self, args: &mut Vec<String>) {
        let mut at = 0;
        while let Some(argument) = args.get(at) {
            let separated = argument.split_once('=').filter(|(flag, path)| {
                self.host_path_behind.contains(&(flag, 0)) && self.moved(Path::new(path)).is_some()
            });
            if let Some((flag, path)) = separated {
                let separated = [flag, path, path].map(str::to_owned);
                args.splice(at..=at, separated);
            }
            at += 1;
        }
    }

    /// Changes the paths in an argument. `a::b` is nvidia-cdi-hook's notation for two paths, `a=b` ours.
    fn argument(&self, argument: &str) -> String {
        let one = |text: &str| {
            self.moved(Path::new(text))
                .map_or_else(|| text.to_owned(), |m| m.display().to_string())
        };
        let separator = if argument.contains("::") { "::" } else { "=" };
        let parts: Vec<String> = argument.split(separator).map(one).collect();
        parts.join(separator)
    }

    fn moved(&self, path: &Path) -> Option<PathBuf> {
        let inner = path.strip_prefix(&self.from).ok()?;
        Some(if inner.as_os_str().is_empty() {
            self.to.clone()
        } else {
            self.to.join(inner)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_behind_a_flag_that_says_so_is_the_hosts() {
        let args = "--of /driver/a /driver/b --of-kind file /driver/c /driver/d --of=/etc/f --of=/driver/g --link /driver/e=x";
        let moved = |relative_to| {
            let mut hook = Hook {
                hook_name: "createContainer".into(),
                args: args.split(' ').map(str::to_owned).collect(),
                ..Hook::default()
            };
            let transform = Transform {
                from: "/driver".into(),
                to: "/m".into(),
                relative_to,
                host_path_behind: &[("--of", 0), ("--of-kind", 1)],
            };
            transform.hook(&mut hook);
            hook.args.join(" ")
        };
        assert_eq!(
            moved(RelativeTo::Host),
            "--of /m/a /driver/b --of-kind file /m/c /driver/d --of=/etc/f --of /m/g /driver/g --link /driver/e=x"
        );
        assert_eq!(
            moved(RelativeTo::Container),
            "--of /driver/a /m/b --of-kind file /driver/c /m/d --of=/etc/f --of /driver/g /m/g --link /m/e=x"
        );
    }
    use crate::{Device, DeviceNode, Mount};

    fn spec() -> Spec {
        let hook = |name: &str| Hook {
            hook_name: name.into(),
            path: "/driver/bin/hook".into(),
            args: [
                "hook",
                "--link",
                "/driver/a::/driver/b",
                "--library",
                "/driver/l=l.so",
                "/driverless",
            ]
            .map(Into::into)
            .into(),
            ..Hook::default()
        };
        Spec {
            cdi_version: "0.3.0".into(),
            kind: "nvidia.com/gpu".into(),
            devices: vec![Device {
                name: "gpu0".into(),
                container_edits: ContainerEdits {
                    device_nodes: vec![DeviceNode {
                        path: "/driver/dev/nvidia0".into(),
                        ..DeviceNode::default()
                    }],
                    ..ContainerEdits::default()
                },
                ..Device::default()
            }],
            container_edits: ContainerEdits {
                hooks: ["createContainer", "startContainer", "prestart"]
                    .map(hook)
                    .into(),
                mounts: vec![
                    Mount {
                        host_path: "/driver".into(),
                        container_path: "/driver".into(),
                        ..Mount::default()
                    },
                    Mount {
                        host_path: "/driverless/a".into(),
                        container_path: "/driverless/a".into(),
                        ..Mount::default()
                    },
                ],
                ..ContainerEdits::default()
            },
            ..Spec::default()
        }
    }

    fn moved(relative_to: RelativeTo) -> Spec {
        let mut spec = spec();
        let transform = Transform {
            from: "/driver".into(),
            to: "/".into(),
            relative_to,
            host_path_behind: &[],
        };
        transform.apply(&mut spec);
        spec.validate().unwrap();
        spec
    }

    #[test]
    fn host_paths_are_changed() {
        let spec = moved(RelativeTo::Host);
        let node = &spec.devices[0].container_edits.device_nodes[0];
        assert_eq!(node.path, Path::new("/driver/dev/nvidia0"));
        assert_eq!(node.host_path.as_deref(), Some(Path::new("/dev/nvidia0")));
        assert_eq!(spec.cdi_version, "0.5.0");
        let edits = &spec.container_edits;
        assert_eq!(edits.mounts[0].host_path, Path::new("/"));
        assert_eq!(edits.mounts[0].container_path, Path::new("/driver"));
        assert_eq!(edits.mounts[1].host_path, Path::new("/driverless/a"));
        let paths: Vec<&Path> = edits.hooks.iter().map(|h| h.path.as_path()).collect();
        assert_eq!(
            paths,
            ["/bin/hook", "/driver/bin/hook", "/bin/hook"].map(Path::new)
        );
        assert_eq!(edits.hooks[0].args[2], "/driver/a::/driver/b");
        assert_eq!(edits.hooks[2].args[2], "/a::/b");
    }

    #[test]
    fn container_paths_are_changed() {
        let spec = moved(RelativeTo::Container);
        let node = &spec.devices[0].container_edits.device_nodes[0];
        assert_eq!(node.path, Path::new("/dev/nvidia0"));
        assert_eq!(
            node.host_path.as_deref(),
            Some(Path::new("/driver/dev/nvidia0"))
        );
        let edits = &spec.container_edits;
        assert_eq!(edits.mounts[0].host_path, Path::new("/driver"));
        assert_eq!(edits.mounts[0].container_path, Path::new("/"));
        let paths: Vec<&Path> = edits.hooks.iter().map(|h| h.path.as_path()).collect();
        assert_eq!(
            paths,
            ["/driver/bin/hook", "/bin/hook", "/driver/bin/hook"].map(Path::new)
        );
        let args = &edits.hooks[0].args;
        assert_eq!(args[2..], ["/a::/b", "--library", "/l=l.so", "/driverless"]);
        assert_eq!(edits.hooks[2].args[2], "/driver/a::/driver/b");
    }

    #[test]
    fn a_path_outside_the_root_is_not_changed() {
        let mut spec = spec();
        let transform = Transform {
            from: "/other".into(),
            to: "/".into(),
            relative_to: RelativeTo::Host,
            host_path_behind: &[],
        };
        let before = spec.clone();
        transform.apply(&mut spec);
        assert_eq!(spec, before);
    }
}
