//! What the engines have read of their files, for the checks: no check reads them again.

use std::any::Any;
use std::path::Path;

use crate::doctor::facts::HostFacts;
use crate::engines::containerd::Containerd;
use crate::engines::containerd::edits::Place;
use crate::engines::containerd::files::Files;
use crate::engines::crio::Crio;
use crate::engines::crio::config::MergedConfig;
use crate::engines::docker::Docker;
use crate::engines::docker::context::CurrentDaemon;
use crate::engines::docker::daemon_json::DaemonJson;
use crate::engines::engine::Engine;
use crate::error::Error;
use crate::host::systemd_unit::Unit;

impl HostFacts<'_> {
    /// The engine with that name, with what it has read of its files.
    fn engine_as<T: Engine>(&self, name: &str) -> Option<&T> {
        let engine: &dyn Any = self.engine(name)?;
        engine.downcast_ref()
    }

    /// The system's Docker, if that is here.
    pub fn docker(&self) -> Option<&Docker> {
        self.engine_as("docker")
    }

    /// The unit of the system's Docker, if that is here.
    pub fn docker_unit(&self) -> Option<&Unit> {
        Some(self.engine_as::<Docker>("docker")?.unit())
    }

    /// The daemon that plain `docker` talks to, if the system's Docker is here.
    pub fn docker_target(&self) -> Option<&CurrentDaemon> {
        Some(self.engine_as::<Docker>("docker")?.target())
    }

    /// The daemon.json of the system's Docker, if that is here.
    pub fn daemon_json(&self) -> Option<Result<&DaemonJson, &Error>> {
        Some(self.engine_as::<Docker>("docker")?.daemon_json())
    }

    /// containerd's files, if it is here as an engine of its own.
    pub fn containerd(&self) -> Option<(&Place, Result<&Files, &Error>)> {
        let containerd: &Containerd = self.engine_as("containerd")?;
        Some((containerd.layout.place(), containerd.files.as_ref()))
    }

    /// CRI-O's merged files, if it is here.
    pub fn crio(&self) -> Option<Result<&MergedConfig, &Error>> {
        Some(self.engine_as::<Crio>("crio")?.merged())
    }

    /// The directory of CRI-O's drop-ins, if CRI-O is here.
    pub fn crio_drop_ins(&self) -> Option<&Path> {
        Some(self.engine_as::<Crio>("crio")?.drop_in_dir())
    }

    /// Whether CRI-O is here with our drop-in.
    pub fn has_crio_drop_in(&self) -> bool {
        let crio: Option<&Crio> = self.engine_as("crio");
        crio.is_some_and(|crio| crio.has_drop_in(self.host))
    }
}
