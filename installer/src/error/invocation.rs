//! A part of gpusetup's command line to which a message points: a flag, or a command to run next.
//!
//! Messages name it by its meaning. How it is written is decided by [`crate::cli::invocation`],
//! which implements `Display` for it, so that no other module contains a flag or a command line.

use std::path::Path;

/// A flag or a command of gpusetup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invocation<'a> {
    /// The flag that answers questions with yes.
    Yes,
    /// The flag that acts on a directory tree.
    Root,
    /// The flag that names engines.
    Engines,
    /// The flag that makes our runtime the default.
    DefaultRuntime,
    /// The flag that takes that back.
    NoDefaultRuntime,
    /// The option to give GPUs through our runtime only.
    ByRuntimeOnly,
    /// The option to give GPUs through CDI only.
    ByCdiOnly,
    /// The option to replace a runtime of another tool or user.
    Adopt,
    /// The option to leave a runtime of another tool or user as it is.
    Leave,
    /// The flag that leaves the engines running as they are.
    NoRestart,
    /// The flag of `verify` that skips the daemon-reload.
    NoDaemonReload,
    /// The flag that repairs problems.
    Fix,
    /// The flag that tells where the driver's files are.
    DriverRoot,
    /// The same, with its directory.
    DriverRootAt(&'a Path),
    /// The flag that names a list of a Tegra's files.
    CsvFile,
    /// The option to name devices by their index.
    NamesByIndex,
    /// Sets engines up.
    Install,
    /// The same, by root.
    InstallAsRoot,
    /// The same, for one engine only.
    InstallEngineAsRoot(&'a str),
    /// Sets engines up and replaces runtimes of other tools or users.
    InstallAdopting,
    /// Sets engines up and runs no container at the end.
    InstallUnverified,
    /// Undoes what was set up.
    Undo,
    /// The same, even if containers need it.
    UndoByForce,
    /// `gpusetup undo --leave-runtime`
    UndoLeavingRuntime,
    /// Recovers from a run that died.
    Recover,
    /// The same, and gives up what cannot be put back.
    RecoverGivingUp,
    /// Shows what is on this host.
    Detect,
    /// Writes the CDI spec again.
    CdiRefresh,
    /// Makes the driver's device nodes.
    CreateDeviceNodes,
    /// Plans a setup, by root.
    PlanAsRoot,
    /// Shows what is on this host and what to do next, by root.
    StatusAsRoot,
    /// Looks for problems, by root.
    DoctorAsRoot,
    /// Shows what is on this host, by root.
    DetectAsRoot,
    /// Lists the devices of CDI specs.
    CdiList,
    /// Explains how specs are made.
    CdiGenerateHelp,
    /// Sets a key of the policy to a value.
    ConfigSet(&'a str, &'a str),
    /// Lists all keys of the policy.
    ConfigDefault,
}
