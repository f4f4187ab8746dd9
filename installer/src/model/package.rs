//! Our packages, as a removal names them.

/// A package that may be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Package {
    /// The installer, without which nothing can be undone
    Gpusetup,
    /// The programs that engines start
    GpuContainerToolkit,
    /// The vendor's names of those programs
    GpusetupNvidiaCompat,
}
