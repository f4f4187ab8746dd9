//! The probe's output: one line of JSON for each part, so that a driver that kills the process loses only the part
//! that it was in.

use serde::{Deserialize, Serialize};

/// One line of the probe's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "kebab-case")]
pub enum Part {
    /// The driver's nodes in /dev.
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

/// The answers of CUDA's driver library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Cuda {
    /// The loader finds no libcuda.so.1.
    NoLibrary {
        /// The dynamic loader's message.
        why: String,
    },
    /// The library is there and reports no device.
    NoDevice {
        /// The library's error.
        why: String,
    },
    /// A call failed before any device was tried.
    Failed {
        /// The call, with its error.
        why: String,
    },
    /// The devices, all of them tried.
    Devices {
        /// As cuDriverGetVersion returns it: 13000 is 13.0.
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
    /// `GPU-xxxxxxxx-…`; where there are slices, the slice's own.
    pub uuid: String,
    /// Whether the device adds two vectors.
    pub sum: Sum,
}

/// The outcome of adding two vectors on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Sum {
    /// Every element is right.
    Passed {
        /// How many elements were compared.
        elements: usize,
    },
    /// The driver accepted every call until it refused to start the kernel: nothing was computed. The fake driver
    /// does this.
    DoesNotCompute,
    /// An element is wrong, or a call failed.
    Failed {
        /// The element or call, with its error.
        why: String,
    },
}

/// The answers of a graphics loader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Graphics {
    /// The loader (libvulkan.so.1, libEGL.so.1) is missing.
    NoLoader {
        /// The dynamic loader's message.
        why: String,
    },
    /// The loader is there, and one of its calls failed.
    Failed {
        /// The call, with its error.
        why: String,
    },
    /// The devices that the loader lists.
    Devices {
        /// Names of NVIDIA's devices.
        nvidia: Vec<String>,
        /// How many other devices there are, such as software renderers.
        others: usize,
    },
}

/// All parts that the probe printed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeOutput {
    /// See [`Part::Nodes`].
    pub nodes: Option<Vec<String>>,
    /// See [`Part::Cuda`].
    pub cuda: Option<Cuda>,
    /// See [`Part::Vulkan`].
    pub vulkan: Option<Graphics>,
    /// See [`Part::Egl`].
    pub egl: Option<Graphics>,
}

impl ProbeOutput {
    /// Reads the probe's output; other lines (such as a runtime's warnings) are skipped.
    #[must_use]
    pub fn from_output(text: &str) -> Self {
        let mut output = Self::default();
        for part in text.lines().filter_map(|l| serde_json::from_str(l).ok()) {
            match part {
                Part::Nodes { names } => output.nodes = Some(names),
                Part::Cuda(cuda) => output.cuda = Some(cuda),
                Part::Vulkan(graphics) => output.vulkan = Some(graphics),
                Part::Egl(graphics) => output.egl = Some(graphics),
            }
        }
        output
    }

    /// The device nodes of single GPUs: `nvidia0`, `nvidia1`.
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
        let output = ProbeOutput::from_output(&text);
        assert_eq!(output.cuda, Some(cuda));
        assert_eq!(output.gpu_nodes(), ["nvidia1"]);
        assert_eq!(output.vulkan, None);
    }
}
