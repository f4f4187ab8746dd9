//! The exit code of gpusetup. `cli::args` describes each to the user.

/// How a command ended, for the process's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or nothing to do.
    Done = 0,
    /// Failed; everything is as it was before.
    Failed = 1,
    /// There are changes to make, or problems.
    Found = 2,
    /// Failed, and not everything could be rolled back; or undone, and something still names our
    /// programs.
    RollbackIncomplete = 3,
    /// The command line is invalid.
    Usage = 4,
    /// Another run is changing this host.
    Locked = 5,
    /// This host cannot be set up.
    Unsupported = 6,
    /// Partly done, or done and not verified.
    Partly = 7,
    /// Containers that ran before do not run.
    ContainersDown = 8,
    /// Only root may do this.
    NeedsRoot = 9,
    /// Interrupted; everything is as it was before.
    Interrupted = 130,
}

impl Exit {
    /// [`Self::Found`] if there is something.
    pub fn if_found(is_found: bool) -> Self {
        if is_found { Self::Found } else { Self::Done }
    }

    /// [`Self::Failed`] if something is wrong.
    pub fn if_failed(is_failed: bool) -> Self {
        if is_failed { Self::Failed } else { Self::Done }
    }

    /// [`Self::Partly`] if something is not done or not proven.
    pub fn if_partly(is_partly: bool) -> Self {
        if is_partly { Self::Partly } else { Self::Done }
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}
