//! What a run does besides writing files, and what it rolls back if an engine fails.

/// What a run does besides writing files.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each step can be left out alone"
)]
#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// Fail before anything is written if an engine refuses its current configuration. Not for an undo, which may be
    /// what repairs it.
    pub checks_before: bool,
    /// Restart the engines that need it.
    pub restart: bool,
    /// Run a container in each engine.
    pub verify: bool,
    /// Look at the end whether what was written is still there.
    pub looks_again: bool,
    /// What is rolled back if one engine fails.
    pub scope: RollbackScope,
}

/// What a run rolls back if one engine fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollbackScope {
    /// That engine, if there are others to set up.
    Engine,
    /// Everything.
    Run,
}
