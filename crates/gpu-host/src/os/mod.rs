//! The operating system: distribution, platform, kernel, service manager, packages.

pub mod cgroup;
pub mod distro;
pub mod init;
pub mod kernel;
mod os_release;
pub mod packages;
pub mod platform;
pub mod programs;
