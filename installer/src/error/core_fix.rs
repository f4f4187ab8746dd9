//! What to do about an error of the core library. The library states facts; this module decides which of our commands
//! helps.

use gpu_inject::{Error, MigControlFault};

use crate::error::invocation::Invocation;
use crate::error::system_fix;

/// What to do about the error, if anything helps.
pub fn of(error: &Error) -> Option<String> {
    use Invocation as I;
    Some(match error {
        Error::NoDriver => format!("`{}` tells what is missing", I::Detect),
        Error::Policy { path, .. }
        | Error::PolicySyntax { path, .. }
        | Error::Inventory { path, .. } => {
            format!("mend {}, or move it away", path.display())
        }
        Error::MigControl {
            fault: MigControlFault::NoNode,
            ..
        } => format!("`{}` shows what it has", I::Detect),
        Error::HookFlag(_) => format!("`{}` makes it anew", I::CdiRefresh),
        Error::NothingToDescribe(_) => {
            format!("`{}` tells which nodes each mode needs", I::CdiGenerateHelp)
        }
        Error::NameStrategy(_) => format!("add {}", I::NamesByIndex),
        Error::Discover(gpu_host::Error::DriverRoot { .. }) => format!(
            "give the directory that has the driver's usr/lib with {}",
            I::DriverRoot
        ),
        Error::Discover(gpu_host::Error::NoCsv(_)) => {
            format!("give an existing file to {}", I::CsvFile)
        }
        Error::Cdi(cdi::Error::Unknown { .. }) => format!("`{}` shows those there are", I::CdiList),
        Error::Cdi(cdi::Error::Read { source, .. })
        | Error::Host { source, .. }
        | Error::System { source, .. } => return system_fix::of(source),
        _ => return None,
    })
}
