//! Paths of a spec moved from one root to another, as for a driver container whose root
//! the host has elsewhere.
//!
//! The rules are those of `nvidia-ctk cdi transform root` 1.20, so that a spec comes out as
//! it does there: a path changes where it is `from` or below it, never in mid-name.

use std::path::{Path, PathBuf};

use crate::spec::{ContainerEdits, Hook, Spec};

/// Flags of our own createContainer hook (`gpu-container-hook cdi`) with a path of the host's, and how many words are
/// between.
const HOST_PATH_BEHIND: [(&str, usize); 3] =
    [("--mounted", 0), ("--mount", 1), ("--mount-if-reached", 1)];

/// And the one with a path that is the host's and the container's, `--mounted=PATH`.
const OF_BOTH: &str = "--mounted=";

/// Whose paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelativeTo {
    /// Those by which the host has things.
    Host,
    /// Those by which a container sees things.
    Container,
}

/// A move of paths.
#[derive(Clone, Debug)]
pub struct Transform {
    /// What they begin with.
    pub from: PathBuf,
    /// What they shall begin with.
    pub to: PathBuf,
    /// Which ones.
    pub relative_to: RelativeTo,
}

impl Transform {
    /// Changes the spec; its version rises where the new paths need it.
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
                    // Where the host has it does not change with what a container calls it.
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

    /// A startContainer hook runs in the container, createContainer with the container's
    /// paths in its arguments (OCI runtime specification 1.2, "POSIX-platform Hooks").
    fn hook(&self, hook: &mut Hook) {
        let runs_in_container = hook.hook_name == "startContainer";
        let has_container_paths = runs_in_container || hook.hook_name == "createContainer";
        let is_container = self.relative_to == RelativeTo::Container;
        if runs_in_container == is_container
            && let Some(moved) = self.moved(&hook.path)
        {
            hook.path = moved;
        }
        self.tell_apart(&mut hook.args);
        let mut host_in = None;
        for argument in &mut hook.args {
            let is_of_container = has_container_paths && host_in != Some(0);
            if is_of_container == is_container {
                *argument = self.argument(argument);
            }
            host_in = match HOST_PATH_BEHIND.iter().find(|(flag, _)| argument == flag) {
                Some((_, words)) => Some(*words),
                None => host_in.and_then(|words: usize| words.checked_sub(1)),
            };
        }
    }

    /// Two paths where one of them is about to change.
    fn tell_apart(&self, args: &mut Vec<String>) {
        let mut at = 0;
        while let Some(argument) = args.get(at) {
            let path = argument.strip_prefix(OF_BOTH).map(str::to_owned);
            if let Some(path) = path.filter(|path| self.moved(Path::new(path)).is_some()) {
                let flag = OF_BOTH.trim_end_matches('=').to_owned();
                args.splice(at..=at, [flag, path.clone(), path]);
            }
            at += 1;
        }
    }

    /// `a::b` is nvidia-cdi-hook's form of two paths, `a=b` ours.
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
    fn of_our_hooks_pairs_the_first_path_is_the_hosts() {
        let args = "--mounted /driver/a /driver/b --mount file /driver/c /driver/d --mounted=/etc/f --mounted=/driver/g --link /driver/e=x";
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
            };
            transform.hook(&mut hook);
            hook.args.join(" ")
        };
        assert_eq!(
            moved(RelativeTo::Host),
            "--mounted /m/a /driver/b --mount file /m/c /driver/d --mounted=/etc/f --mounted /m/g /driver/g --link /driver/e=x"
        );
        assert_eq!(
            moved(RelativeTo::Container),
            "--mounted /driver/a /m/b --mount file /driver/c /m/d --mounted=/etc/f --mounted /driver/g /m/g --link /m/e=x"
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
        };
        transform.apply(&mut spec);
        spec.validate().unwrap();
        spec
    }

    #[test]
    fn host_paths_change_where_the_host_has_things() {
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
    fn container_paths_change_where_a_container_sees_things() {
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
    fn a_path_that_does_not_begin_so_stays() {
        let mut spec = spec();
        let transform = Transform {
            from: "/other".into(),
            to: "/".into(),
            relative_to: RelativeTo::Host,
        };
        let before = spec.clone();
        transform.apply(&mut spec);
        assert_eq!(spec, before);
    }
}
