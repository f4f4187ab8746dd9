//! A case: a way of getting GPUs, in an image, on a host with a number of GPUs, on a runtime.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The GPUs of a fake host and the MIG slices of each: `8`, or `64x7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Gpus {
    pub count: u32,
    pub mig: u32,
}

impl FromStr for Gpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (count, mig) = text.split_once('x').unwrap_or((text, "0"));
        let number = |text: &str, limit: u32| match text.parse() {
            Ok(n) if n <= limit => Ok(n),
            _ => Err(format!("{text:?} is no number up to {limit}")),
        };
        Ok(Self {
            count: number(count, 64)?,
            mig: number(mig, 7)?,
        })
    }
}

impl TryFrom<String> for Gpus {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Gpus> for String {
    fn from(gpus: Gpus) -> Self {
        gpus.to_string()
    }
}

impl fmt::Display for Gpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mig {
            0 => write!(f, "{}", self.count),
            mig => write!(f, "{}x{mig}", self.count),
        }
    }
}

/// The container's root file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Image {
    /// A static busybox and nothing else; no ld.so.cache
    Tiny,
    /// Debian's base files, shell, tools and loader
    Debian,
    /// The same with 20,000 more libraries
    Many,
}

/// The low-level runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Below {
    Runc,
    Crun,
}

/// The name in figures and on the command line.
fn word(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |v| v.get_name().to_owned())
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&word(self))
    }
}

impl fmt::Display for Below {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&word(self))
    }
}

/// How the container gets its GPUs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Way {
    /// No GPU: the low-level runtime alone.
    Plain,
    /// The same again, which shows the noise.
    PlainAgain,
    /// Through our shim, without requesting a GPU.
    NoGpu,
    /// With the shim's edits in config.json already, and without its hook.
    Floor,
    /// Our shim.
    Shim,
    /// With the edits of our CDI spec in config.json already, and without its hook.
    CdiFloor,
    /// The same with a hook that does nothing, which shows what any hook costs.
    EmptyHook,
    /// The same with our hook: what a CDI engine makes the low-level runtime do.
    Cdi,
    /// Our prestart hook, as `docker run --gpus` adds it.
    Live,
    /// Through another runtime, chosen by name, without requesting a GPU.
    OtherNoGpu(String),
    /// Through another runtime, chosen by name.
    Other(String),
    /// With the edits and hooks of another CDI spec.
    OtherCdi(String),
    /// Another prestart hook.
    OtherLive(String),
}

impl Way {
    /// The way that its time is compared with.
    pub(crate) fn floor(&self) -> Option<Self> {
        match self {
            Self::Plain => None,
            Self::PlainAgain | Self::NoGpu | Self::OtherNoGpu(_) | Self::Floor | Self::CdiFloor => {
                Some(Self::Plain)
            }
            Self::Shim | Self::Live | Self::Other(_) | Self::OtherCdi(_) | Self::OtherLive(_) => {
                Some(Self::Floor)
            }
            Self::EmptyHook | Self::Cdi => Some(Self::CdiFloor),
        }
    }

    pub(crate) fn has_gpus(&self) -> bool {
        !matches!(
            self,
            Self::Plain | Self::PlainAgain | Self::NoGpu | Self::OtherNoGpu(_)
        )
    }

    /// Whether the driver's links and the loader's cache are made. Edits alone do not make them.
    pub(crate) fn is_complete(&self) -> bool {
        self.has_gpus() && !matches!(self, Self::Floor | Self::CdiFloor | Self::EmptyHook)
    }

    /// Whether any program runs besides the low-level runtime.
    pub(crate) fn adds_programs(&self) -> bool {
        self.is_complete() || matches!(self, Self::NoGpu | Self::OtherNoGpu(_))
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("plain"),
            Self::PlainAgain => f.write_str("plain again"),
            Self::NoGpu => f.write_str("shim, no GPU"),
            Self::Floor => f.write_str("floor"),
            Self::Shim => f.write_str("shim"),
            Self::CdiFloor => f.write_str("CDI floor"),
            Self::EmptyHook => f.write_str("empty hook"),
            Self::Cdi => f.write_str("CDI hook"),
            Self::Live => f.write_str("live hook"),
            Self::OtherNoGpu(name) => write!(f, "{name} shim, no GPU"),
            Self::Other(name) => write!(f, "{name} shim"),
            Self::OtherCdi(name) => write!(f, "{name} CDI"),
            Self::OtherLive(name) => write!(f, "{name} live"),
        }
    }
}

/// Another vendor's program to measure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Other {
    pub name: String,
    /// An OCI runtime; GPUs are requested with `NVIDIA_VISIBLE_DEVICES`.
    pub runtime: Option<String>,
    /// A program with `cdi generate`, such as nvidia-ctk.
    pub generator: Option<String>,
    /// The hook that the generated spec names.
    pub hook: Option<String>,
    /// A hook that accepts `prestart`.
    pub prestart: Option<String>,
}

/// The ways that are measured on a host, in turn.
pub(crate) fn ways(is_first: bool, others: &[Other]) -> Vec<Way> {
    let mut ways = vec![Way::Plain];
    // Neither depends on the host's GPUs.
    if is_first {
        ways.extend([Way::PlainAgain, Way::NoGpu]);
        let runtimes = others.iter().filter(|o| o.runtime.is_some());
        ways.extend(runtimes.map(|o| Way::OtherNoGpu(o.name.clone())));
    }
    ways.extend([Way::Floor, Way::Shim, Way::CdiFloor]);
    ways.extend([Way::EmptyHook, Way::Cdi, Way::Live]);
    for other in others {
        let name = || other.name.clone();
        ways.extend(other.runtime.as_ref().map(|_| Way::Other(name())));
        ways.extend(other.generator.as_ref().map(|_| Way::OtherCdi(name())));
        ways.extend(other.prestart.as_ref().map(|_| Way::OtherLive(name())));
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_a_number_with_slices_or_without() {
        assert_eq!("64x7".parse(), Ok(Gpus { count: 64, mig: 7 }));
        assert_eq!("8".parse(), Ok(Gpus { count: 8, mig: 0 }));
        for wrong in ["", "x", "65", "8x8", "-1"] {
            assert!(wrong.parse::<Gpus>().is_err(), "{wrong}");
        }
        assert_eq!(Gpus { count: 64, mig: 7 }.to_string(), "64x7");
    }

    #[test]
    fn compared_values_are_also_measured() {
        let others = [Other {
            name: "peer".into(),
            runtime: Some("r".into()),
            generator: Some("g".into()),
            prestart: Some("p".into()),
            ..Other::default()
        }];
        for is_first in [true, false] {
            let ways = ways(is_first, &others);
            for way in &ways {
                assert!(way.floor().is_none_or(|f| ways.contains(&f)), "{way}");
            }
            assert_eq!(
                ways.iter()
                    .filter(|w| w.to_string().starts_with("peer"))
                    .count(),
                3 + usize::from(is_first)
            );
        }
    }
}
