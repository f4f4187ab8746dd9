//! The probe's document: a line of JSON for each part, so that a driver that kills the process takes one part with it and
//! not those before.

use serde::{Deserialize, Serialize};

/// One line of the probe's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "kebab-case")]
pub enum Part {
    /// Names below /dev that are the driver's.
    Nodes {
        /// Such as `nvidia0`, `nvidiactl`; sorted.
        names: Vec<String>,
    },
    /// CUDA.
    Cuda(Cuda),
    /// Vulkan.
    Vulkan(Graphics),
    /// EGL.
    Egl(Graphics),
}

/// What CUDA's driver library answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Cuda {
    /// There is no libcuda.so.1 that the loader finds.
    NoLibrary {
        /// The loader's words.
        why: String,
    },
    /// The library is there and has no device.
    NoDevice {
        /// The library's error.
        why: String,
    },
    /// A call failed before any device was tried.
    Failed {
        /// Which, with its error.
        why: String,
    },
    /// Devices, each tried.
    Devices {
        /// As cuDriverGetVersion says: 13000 is 13.0.
        version: i32,
        /// In the library's order.
        devices: Vec<Device>,
    },
}

/// A CUDA device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Product name.
    pub name: String,
    /// `GPU-xxxxxxxx-…`; a slice's own where there are slices.
    pub uuid: String,
    /// What adding two vectors on it came to.
    pub sum: Sum,
}

/// What adding two vectors on a device came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Sum {
    /// Every element is right.
    Passed {
        /// How many elements were compared.
        elements: usize,
    },
    /// The driver took every call, and then said that it starts no kernel: nothing was computed. The fake driver's answer.
    DoesNotCompute,
    /// An element is wrong, or a call failed.
    Failed {
        /// Which, with its error.
        why: String,
    },
}

/// What a graphics loader answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Graphics {
    /// The loader (libvulkan.so.1, libEGL.so.1) is not there.
    NoLoader {
        /// The dynamic loader's words.
        why: String,
    },
    /// The loader is there, and a call of it failed.
    Failed {
        /// Which, with its error.
        why: String,
    },
    /// What the loader lists.
    Devices {
        /// Names of NVIDIA's devices.
        nvidia: Vec<String>,
        /// How many others there are, such as those that compute on the processor.
        others: usize,
    },
}

/// All parts that arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// See [`Part::Nodes`].
    pub nodes: Option<Vec<String>>,
    /// See [`Part::Cuda`].
    pub cuda: Option<Cuda>,
    /// See [`Part::Vulkan`].
    pub vulkan: Option<Graphics>,
    /// See [`Part::Egl`].
    pub egl: Option<Graphics>,
}

impl Seen {
    /// Reads the probe's output; lines of others (a runtime's warnings) are skipped.
    #[must_use]
    pub fn from_output(text: &str) -> Self {
        let mut seen = Self::default();
        for part in text.lines().filter_map(|l| serde_json::from_str(l).ok()) {
            match part {
                Part::Nodes { names } => seen.nodes = Some(names),
                Part::Cuda(cuda) => seen.cuda = Some(cuda),
                Part::Vulkan(found) => seen.vulkan = Some(found),
                Part::Egl(found) => seen.egl = Some(found),
            }
        }
        seen
    }

    /// The nodes of single GPUs: `nvidia0`, `nvidia1`.
    #[must_use]
    pub fn gpu_nodes(&self) -> Vec<&str> {
        let names = self.nodes.iter().flatten();
        names
            .map(String::as_str)
            .filter(|n| {
                n.strip_prefix("nvidia")
                    .is_some_and(|m| m.parse::<u32>().is_ok())
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_and_other_lines_skipped() {
        let nodes = Part::Nodes {
            names: ["nvidia-uvm", "nvidia1", "nvidiactl"]
                .map(str::to_owned)
                .to_vec(),
        };
        let cuda = Cuda::Devices {
            version: 13000,
            devices: vec![Device {
                name: "a GPU".into(),
                uuid: "GPU-1".into(),
                sum: Sum::DoesNotCompute,
            }],
        };
        let text = format!(
            "a warning\n{}\n{}\n{{\"part\":\"strange\"}}\n",
            serde_json::to_string(&nodes).unwrap(),
            serde_json::to_string(&Part::Cuda(cuda.clone())).unwrap(),
        );
        let seen = Seen::from_output(&text);
        assert_eq!(seen.cuda, Some(cuda));
        assert_eq!(seen.gpu_nodes(), ["nvidia1"]);
        assert_eq!(seen.vulkan, None);
    }
}
