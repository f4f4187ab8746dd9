//! Describes what has to happen for an engine's changed files to take effect.

use crate::host::answer::Answer;
use crate::host::service::{Service, Verb};

/// What has to happen, as the plan shows it. [`crate::transaction::activate`] does it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nothing: the engine reads its files each time it needs them, or none of them changes.
    #[default]
    None,
    /// The service reads its files again; no container stops.
    Reload(Activated),
    /// The service is stopped and started.
    Restart {
        /// The service.
        of: Activated,
        /// Running containers that the restart stops and that are started again afterwards. If they are not known,
        /// none can be started.
        containers: Answer<Vec<String>>,
    },
    /// The service is stopped, because it was so before gpusetup started it.
    Stop(Activated),
    /// The service is not touched, since it does not run, or does not run the daemon: whoever starts the daemon next makes
    /// the files take effect.
    AtStart(Activated),
}

/// The service of an [`Activation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activated {
    /// The service.
    pub service: Service,
    /// Its unit files change, so `systemctl daemon-reload` comes first.
    pub unit_changes: bool,
    /// What happens to running containers, as a message: `3 running containers stop: web, db, cache
    /// (live-restore is off)`.
    pub effect: String,
}

impl Activation {
    /// A restart that stops no container.
    pub fn restart(of: Activated) -> Self {
        Self::Restart {
            of,
            containers: Answer::None,
        }
    }

    /// The service that is restarted or reloaded, and which of the two.
    pub fn of(&self) -> Option<(&Activated, Verb)> {
        match self {
            Self::None | Self::AtStart(_) => None,
            Self::Reload(of) => Some((of, Verb::Reload)),
            Self::Stop(of) => Some((of, Verb::Stop)),
            Self::Restart { of, .. } => Some((of, Verb::Restart)),
        }
    }

    /// What is known of its service, whether or not it is touched.
    pub fn activated(&self) -> Option<&Activated> {
        match self {
            Self::None => None,
            Self::Reload(of) | Self::Stop(of) | Self::AtStart(of) | Self::Restart { of, .. } => {
                Some(of)
            }
        }
    }

    /// The same, with the reason for which it is done besides the changes of this run.
    pub fn because(self, why: &str) -> Self {
        let with = |of: Activated| Activated {
            effect: format!("due since an earlier run: {why}; {}", of.effect),
            ..of
        };
        match self {
            Self::Reload(of) => Self::Reload(with(of)),
            Self::Restart { of, containers } => Self::Restart {
                of: with(of),
                containers,
            },
            other => other,
        }
    }

    /// The same for a service that is not to be touched, with the reason.
    pub fn at_start(self, effect: &str) -> Self {
        match self {
            Self::None => Self::None,
            Self::Reload(of) | Self::Stop(of) | Self::AtStart(of) | Self::Restart { of, .. } => {
                Self::AtStart(Activated {
                    effect: effect.to_owned(),
                    ..of
                })
            }
        }
    }

    /// The service, if there is anything to do.
    pub fn service(&self) -> Option<&Service> {
        self.of().map(|(of, _)| &of.service)
    }

    /// Names of the containers that stop, as far as they are known.
    pub fn stopped(&self) -> &[String] {
        match self {
            Self::Restart { containers, .. } => containers.known().map_or(&[], Vec::as_slice),
            Self::None | Self::Reload(_) | Self::Stop(_) | Self::AtStart(_) => &[],
        }
    }

    /// Why it is not known which containers stop.
    pub fn stops_unknown(&self) -> Option<&str> {
        match self {
            Self::Restart { containers, .. } => containers.unknown(),
            Self::None | Self::Reload(_) | Self::Stop(_) | Self::AtStart(_) => None,
        }
    }
}
