//! How the description of the fake driver is stored in its libraries: as text in a marked buffer of fixed size, which
//! the installer overwrites in its copy of the file. So a container needs no file besides the library, as with the
//! real driver.
//!
//! Included by the two libraries and the installer; depends on nothing.

/// Starts the buffer; unlikely to be anywhere else.
pub const MAGIC: &[u8; 16] = b"fake-driver-text";
/// Size of the buffer with its mark; 64 GPUs of 7 slices fit.
pub const SIZE: usize = 96 * 1024;

/// A whole driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    pub version: String,
    pub cuda: i32,
    pub gpus: Vec<Gpu>,
}

/// A GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gpu {
    pub minor: u32,
    pub uuid: String,
    /// `0000:3b:00.0`
    pub pci: String,
    pub name: String,
    pub mig: Vec<Slice>,
}

/// A MIG slice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    pub gpu_instance: u32,
    pub compute_instance: u32,
    pub uuid: String,
    pub profile: String,
    /// Minors of the two capability nodes.
    pub caps: [u32; 2],
}

impl Wire {
    /// As text: a line for the driver, each GPU and each slice, with fields between bars.
    pub fn to_text(&self) -> String {
        let mut text = format!("driver|{}|{}\n", self.version, self.cuda);
        for gpu in &self.gpus {
            let gpu_line = format!("gpu|{}|{}|{}|{}\n", gpu.minor, gpu.uuid, gpu.pci, gpu.name);
            text.push_str(&gpu_line);
            for s in &gpu.mig {
                let [first, second] = s.caps;
                let ids = format!("{}|{}", s.gpu_instance, s.compute_instance);
                let line = format!("mig|{ids}|{}|{}|{first}|{second}\n", s.uuid, s.profile);
                text.push_str(&line);
            }
        }
        text
    }

    /// Reads up to the first NUL; unknown lines are skipped.
    pub fn from_text(bytes: &[u8]) -> Self {
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        let mut wire = Self::default();
        for line in String::from_utf8_lossy(&bytes[..end]).lines() {
            let fields: Vec<&str> = line.split('|').collect();
            let number = |n: usize| fields.get(n).and_then(|f| f.parse().ok()).unwrap_or(0);
            let text = |n: usize| fields.get(n).map(ToString::to_string).unwrap_or_default();
            match fields.first() {
                Some(&"driver") => {
                    wire.version = text(1);
                    wire.cuda = fields.get(2).and_then(|f| f.parse().ok()).unwrap_or(0);
                }
                Some(&"gpu") => wire.gpus.push(Gpu {
                    minor: number(1),
                    uuid: text(2),
                    pci: text(3),
                    name: text(4),
                    mig: Vec::new(),
                }),
                Some(&"mig") => {
                    if let Some(gpu) = wire.gpus.last_mut() {
                        gpu.mig.push(Slice {
                            gpu_instance: number(1),
                            compute_instance: number(2),
                            uuid: text(3),
                            profile: text(4),
                            caps: [number(5), number(6)],
                        });
                    }
                }
                _ => {}
            }
        }
        wire
    }
}
