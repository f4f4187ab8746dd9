//! A container that could not start again without our setup.

/// A container, running or stopped, that could not start again without our setup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DependentContainer {
    /// Its name and what it uses: `web (--runtime nvidia)`.
    pub text: String,
    /// Why it needs the setup.
    pub need: Dependence,
}

/// Why a container needs our setup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependence {
    /// It asks for GPUs, or it is not known that it does not.
    Gpus,
    /// Its engine has recorded our runtime's name for it, mostly because that was the default. It asks for no GPU.
    RuntimeName,
}

impl DependentContainer {
    /// A container that asks for GPUs.
    pub fn with_gpus(text: String) -> Self {
        let need = Dependence::Gpus;
        Self { text, need }
    }
}
