//! Finds containerds of their own beside the system's: started by hand or by another unit, with a configuration or an
//! address of their own. They are named and left alone.

use std::path::{Path, PathBuf};

use crate::engines::unmanaged::Unmanaged;
use crate::host::Host;
use crate::host::daemon_process::{self, DaemonProcess};
use crate::host::start_flags;

/// Programs that start a containerd of their own and are engines themselves, by the first letters of their names.
const STARTED_BY: [&str; 5] = ["dockerd", "k3s", "rke2", "k0s", "kubelite"];

/// A containerd that is not the system's.
struct SecondContainerd {
    process: DaemonProcess,
    config: PathBuf,
    socket: String,
}

/// Looks for them. `config` and `socket` are those of the system's containerd.
pub fn find(host: &Host, config: &Path, socket: &Path) -> Vec<Unmanaged> {
    let all = daemon_process::running(host, "containerd").into_iter();
    let others = all.filter(|process| {
        let by = process.parent.as_deref().unwrap_or_default();
        !process.is_of_unit("containerd.service")
            && !STARTED_BY.iter().any(|name| by.starts_with(name))
            && !process.unit().is_some_and(|unit| unit.starts_with("snap."))
    });
    let given = |process: &DaemonProcess, names: &[&str]| {
        let arguments = process.argv.iter().skip(1).map(String::as_str);
        start_flags::last_of(arguments, names)
    };
    let others = others.map(|process| SecondContainerd {
        config: given(&process, &["config", "c"]).map_or_else(|| config.into(), PathBuf::from),
        socket: given(&process, &["address", "a"])
            .or_else(|| {
                let file = given(&process, &["config", "c"])?;
                address(host, Path::new(&file))
            })
            .unwrap_or_else(|| socket.display().to_string()),
        process,
    });
    // With the system's file and socket it is the system's, run by other means.
    let others = others.filter(|o| o.config != config || Path::new(&o.socket) != socket);
    others.map(SecondContainerd::engine).collect()
}

/// The address in a configuration file; `None` if it has none, or cannot be read.
fn address(host: &Host, file: &Path) -> Option<String> {
    let text = host.text(file).ok()??;
    let document: toml_edit::DocumentMut = text.parse().ok()?;
    let address = document.get("grpc")?.get("address")?.as_str()?;
    Some(address.to_owned()).filter(|address| !address.is_empty())
}

impl SecondContainerd {
    fn engine(self) -> Unmanaged {
        let Self {
            process,
            config,
            socket,
        } = self;
        let why = format!(
            "{} is a containerd of its own, which containerd.service does not run",
            process.text()
        );
        let instead = format!(
            "ctr and nerdctl use CDI there at once; for pods, put the table of the runtime into {} as docs/engines.md \
             has it, and restart it as it was started",
            config.display()
        );
        Unmanaged::new(&format!("containerd@{socket}"), why, instead)
            .with(None, Some(&config))
            .run_as(process)
    }
}
