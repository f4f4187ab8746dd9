//! A container's device rules: allows its devices, checks that they can be opened, and restores access to devices
//! that something has revoked.

use std::fs;
use std::path::{Path, PathBuf};

use gpu_host::DeviceNode;

use super::cgroup_paths::cgroups_upward;
use super::cgroup_v2::Covered;
use super::own_cgroups::OwnCgroups;
use super::systemd_manager::SystemdManager;
use super::target::Pidfd;
use super::{cgroup_v1, cgroup_v2, open_check, systemd};
use crate::error::{Error, Message};
use crate::linux::kernel_text::kernel_text;
use crate::linux::process::Process;

/// A container whose device rules are to be changed.
pub(super) struct ContainerRules<'a> {
    /// A process in the container's cgroup.
    pub(super) process: &'a Process,
    /// The text of our own mountinfo(5).
    pub(super) mounts: &'a str,
    /// Its config.json, if known.
    pub(super) config: Option<&'a Path>,
    pub(super) manager: Option<&'a SystemdManager>,
    /// Its systemd unit, if known.
    pub(super) unit: Option<&'a str>,
}

/// The container's place in the one hierarchy that has device rules.
enum RulesPlace {
    V1(PathBuf),
    V2(PathBuf),
}

impl RulesPlace {
    fn leaf(&self) -> &Path {
        match self {
            Self::V1(dir) | Self::V2(dir) => dir,
        }
    }
}

impl ContainerRules<'_> {
    /// Allows the nodes. Returns warnings.
    pub(super) fn allow(&self, nodes: &[DeviceNode]) -> Result<Vec<Message>, Error> {
        let place = self.place()?;
        let leaf = place.leaf();
        let named = self.unit.and_then(|unit| OwnCgroups::in_unit(leaf, unit));
        let own = named.unwrap_or_else(|| OwnCgroups::of(leaf));
        let covered = match &place {
            // The kernel refuses the rule if an ancestor cgroup forbids the device.
            RulesPlace::V1(_) => cgroup_v1::allow(&own.dirs, nodes).map(|()| Covered::Every)?,
            RulesPlace::V2(_) => cgroup_v2::allow(leaf, &own.dirs, nodes, self.config)?,
        };
        let mut warnings = Vec::new();
        if covered == Covered::NotAll {
            warnings.extend(self.prove(leaf, nodes)?);
        }
        if let (Some(scope), Some(dir)) = (&own.scope, own.dirs.last()) {
            warnings.extend(systemd::keep_devices(dir, scope, nodes, self.manager)?);
        }
        Ok(warnings)
    }

    /// Returns the nodes that the container may not open. This process enters the container's cgroup for a moment.
    pub(super) fn lost<'n>(&self, nodes: &'n [DeviceNode]) -> Result<Vec<&'n DeviceNode>, Error> {
        let place = self.place()?;
        let leaf = place.leaf();
        open_check::refused(leaf, &self.home(&place)?, nodes).map_err(Error::system(format!(
            "{}: ask for device rules",
            leaf.display()
        )))
    }

    /// Asks the kernel whether the container can open its nodes. This is needed if rules apply that we did not write:
    /// the rules of an ancestor of the container's cgroup.
    fn prove(&self, leaf: &Path, nodes: &[DeviceNode]) -> Result<Option<Message>, Error> {
        let at = leaf.display();
        let refused = match self.lost(nodes) {
            Ok(refused) => refused,
            Err(why) => {
                let text = format!(
                    "{at}: whether device rules above it let the GPUs through is not known: {why}"
                );
                return Ok(Some(text.into()));
            }
        };
        let Some(first) = refused.first() else {
            return Ok(None);
        };
        let rules = cgroup_v2::with_programs(leaf);
        let rules: Vec<String> = rules
            .iter()
            .filter(|dir| *dir != leaf)
            .map(|dir| dir.display().to_string())
            .collect();
        let rules = if rules.is_empty() {
            "a cgroup that cannot be seen from here".to_owned()
        } else {
            rules.join(", ")
        };
        Err(Error::State(
            format!(
                "{at}: device rules of a cgroup above it forbid {}; allow it there: {rules} (for a slice of systemd's, \
                 systemctl set-property SLICE DeviceAllow='/dev/char/{}:{} rw')",
                first.path.display(),
                first.major,
                first.minor
            )
            .into(),
        ))
    }

    fn place(&self) -> Result<RulesPlace, Error> {
        let process = self.process;
        self.place_of(process)?.ok_or_else(|| {
            Error::State(
                format!(
                    "{process} has no cgroup of its own that could grant it devices; is /sys/fs/cgroup mounted? \
                     Where something else grants devices, set no-cgroups = true in config.toml"
                )
                .into(),
            )
        })
    }

    fn place_of(&self, process: &Process) -> Result<Option<RulesPlace>, Error> {
        let text = process.read("cgroup")?;
        // The devices controller is in one hierarchy only: in v1's if that is mounted.
        let v1 = cgroup_v1::directory(&text, self.mounts).map(RulesPlace::V1);
        Ok(v1.or_else(|| cgroup_v2::directory(&text, self.mounts).map(RulesPlace::V2)))
    }

    /// The cgroup of this process in the hierarchy of `place`.
    fn home(&self, place: &RulesPlace) -> Result<PathBuf, Error> {
        let home = self.place_of(&Process::current()?)?;
        let is_same = |home: &RulesPlace| {
            matches!(
                (home, place),
                (RulesPlace::V1(_), RulesPlace::V1(_)) | (RulesPlace::V2(_), RulesPlace::V2(_))
            )
        };
        let top = || {
            cgroups_upward(place.leaf())
                .last()
                .unwrap_or_else(|| place.leaf())
                .to_owned()
        };
        // The root of the hierarchy is not found by its path, because its rules apply to every process.
        Ok(home
            .filter(is_same)
            .map_or_else(top, |home| home.leaf().to_owned()))
    }
}

/// A running container whose devices may have been revoked.
#[derive(Clone, Copy, Debug)]
pub struct RunningContainer<'a> {
    /// A process of the container.
    pub process: &'a Pidfd,
    /// Its systemd unit, such as `docker-ID.scope`, if it has one.
    pub unit: Option<&'a str>,
    /// Its config.json, if known.
    pub config: Option<&'a Path>,
}

/// Returns the nodes that the container may no longer open.
///
/// The calling process enters the container's cgroup for a moment, so it should be a process that was started only
/// for this.
pub fn lost_devices<'n>(
    container: RunningContainer<'_>,
    nodes: &'n [DeviceNode],
) -> Result<Vec<&'n DeviceNode>, Error> {
    container.with_rules(|rules| rules.lost(nodes))
}

/// Lets the container open those of these nodes again that it may no longer open, after an event that has replaced
/// its device rules, and tells systemd about all of them. Returns the nodes that were revoked.
///
/// The container's mounts are unchanged, so no file is touched. As for [`lost_devices`], the calling process should
/// have been started only for this.
pub fn restore_devices<'n>(
    container: RunningContainer<'_>,
    nodes: &'n [DeviceNode],
) -> Result<Vec<&'n DeviceNode>, Error> {
    container.with_rules(|rules| {
        let lost = rules.lost(nodes)?;
        if lost.is_empty() {
            return Ok(lost);
        }
        rules.allow(nodes)?;
        match rules.lost(nodes)?.first() {
            None => Ok(lost),
            Some(node) => Err(Error::State(
                format!(
                    "{} is still forbidden after its device rules were made anew",
                    node.path.display()
                )
                .into(),
            )),
        }
    })
}

impl RunningContainer<'_> {
    fn with_rules<T>(
        &self,
        work: impl FnOnce(&ContainerRules<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let path = Path::new("/proc/self/mountinfo");
        let mounts = kernel_text(fs::read(path).map_err(Error::host(path))?);
        let process = self.process.process()?;
        let manager = SystemdManager::connect();
        work(&ContainerRules {
            process: &process,
            mounts: &mounts,
            config: self.config,
            manager: manager.as_ref(),
            unit: self.unit,
        })
    }
}
