//! Driver capabilities, single and as a set.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A part of the driver that a container can request with `NVIDIA_DRIVER_CAPABILITIES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Capability {
    /// CUDA and OpenCL.
    Compute = 1,
    /// 32-bit libraries.
    Compat32 = 2,
    /// OpenGL, Vulkan, EGL.
    Graphics = 4,
    /// nvidia-smi and NVML.
    Utility = 8,
    /// Encode, decode, VDPAU.
    Video = 16,
    /// X.org and mode setting.
    Display = 32,
    /// NGX.
    Ngx = 64,
}

impl Capability {
    /// All of them, in the order the documentation lists them.
    pub const ALL: [Self; 7] = [
        Self::Compute,
        Self::Compat32,
        Self::Graphics,
        Self::Utility,
        Self::Video,
        Self::Display,
        Self::Ngx,
    ];

    /// The word used in `NVIDIA_DRIVER_CAPABILITIES` and in our tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Compat32 => "compat32",
            Self::Graphics => "graphics",
            Self::Utility => "utility",
            Self::Video => "video",
            Self::Display => "display",
            Self::Ngx => "ngx",
        }
    }

    /// The capability with this word; `None` for any other word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.word() == word)
    }
}

/// A set of [`Capability`].
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Capabilities(u8);

impl Capabilities {
    /// No capability.
    pub const NONE: Self = Self(0);
    /// Every capability.
    pub const ALL: Self = Self(127);

    /// The set of the listed capabilities.
    pub fn of(list: &[Capability]) -> Self {
        Self(list.iter().fold(0, |bits, c| bits | *c as u8))
    }

    /// The set with one capability added.
    #[must_use]
    pub fn with(self, capability: Capability) -> Self {
        Self(self.0 | capability as u8)
    }

    /// Whether the capability is in the set.
    pub fn has(self, capability: Capability) -> bool {
        self.0 & capability as u8 != 0
    }

    /// Whether the two sets share a capability.
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The intersection of the two sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The union of the two sets.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its members in [`Capability::ALL`]'s order.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::ALL.into_iter().filter(move |c| self.has(*c))
    }
}

impl fmt::Display for Capabilities {
    /// Comma list, as in `NVIDIA_DRIVER_CAPABILITIES`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, capability) in self.iter().enumerate() {
            if n > 0 {
                f.write_str(",")?;
            }
            f.write_str(capability.word())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Capabilities({self})")
    }
}

impl Serialize for Capabilities {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Capabilities {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::of(&Vec::<Capability>::deserialize(deserializer)?))
    }
}
