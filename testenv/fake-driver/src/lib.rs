//! A stand-in NVIDIA driver: libraries, programs, nodes, proc and sysfs trees, made from one description, installed
//! into any root and removed again. For tests; never shipped.
#![forbid(unsafe_code)]

pub mod describe;
pub mod elf;
mod extras;
pub mod install;
pub mod kernel;
pub mod live;
pub mod parts;
mod sizes;
mod tegra;
#[path = "../wire.rs"]
#[allow(missing_docs, reason = "said once, at the top of the file")]
pub mod wire;
mod wsl;
