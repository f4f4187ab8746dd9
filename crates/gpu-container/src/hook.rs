//! The createContainer hook of our CDI spec: links, the loader's cache and the mask of
//! the driver's parameters, in one process that starts nothing.

use std::ffi::OsString;
use std::process::ExitCode;

use gpu_host::Link;
use gpu_inject::prepare::prepare_rootfs;
use gpu_inject::rootfs::Rootfs;
use gpu_inject::{Error, Library, live};

use crate::bundle::state_from_stdin;
use crate::{confine, log};

/// `cdi --library PATH=SONAME… --library32 PATH=SONAME… --link PATH=TARGET… --forbid-device-nodes`
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    confine::cdi_hook();
    let done = Wanted::read(args).and_then(|wanted| carry_out(&wanted));
    if let Err(e) = done {
        log::failure(&e, None);
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    libraries: Vec<Library>,
    links: Vec<Link>,
    forbid_device_nodes: bool,
}

impl Wanted {
    fn read(args: &[OsString]) -> Result<Self, Error> {
        let bad = |what: &str| Error::State(format!("gpu-container-hook: {what}"));
        let mut args = args.iter().map(|a| a.to_str().unwrap_or_default());
        match args.next() {
            Some("cdi") => {}
            other => {
                let name = other.unwrap_or("");
                return Err(bad(&format!("no hook is called {name:?}; `cdi` is")));
            }
        }
        let mut wanted = Self::default();
        while let Some(flag) = args.next() {
            if flag == "--forbid-device-nodes" {
                wanted.forbid_device_nodes = true;
                continue;
            }
            let (path, value) = args
                .next()
                .and_then(|v| v.split_once('='))
                .filter(|(path, value)| path.starts_with('/') && !value.is_empty())
                .ok_or_else(|| bad(&format!("{flag} needs /PATH=VALUE")))?;
            match flag {
                "--library" | "--library32" => wanted.libraries.push(Library {
                    path: path.into(),
                    soname: value.into(),
                    compat32: flag == "--library32",
                }),
                "--link" => wanted.links.push(Link {
                    path: path.into(),
                    target: value.into(),
                }),
                other => return Err(bad(&format!("unknown flag {other:?}"))),
            }
        }
        Ok(wanted)
    }
}

fn carry_out(wanted: &Wanted) -> Result<(), Error> {
    let (_, bundle) = state_from_stdin()?;
    // runc runs this hook in the container's mount namespace before pivot_root: the
    // root file system is still where config.json says.
    let rootfs = Rootfs::open(&bundle.rootfs(&bundle.config()?)?)?;
    prepare_rootfs(&rootfs, &wanted.libraries, &wanted.links)?;
    if wanted.forbid_device_nodes {
        live::forbid_device_nodes(&rootfs)?;
    }
    log::notes(&rootfs.notes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Wanted, Error> {
        Wanted::read(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn flags_are_read() {
        let wanted = read("cdi --library /l/a.so.5=a.so.1 --library32 /m/a.so.5=a.so.1 --link /l/b=c=d --forbid-device-nodes").unwrap();
        assert_eq!(wanted.libraries.len(), 2);
        assert!(wanted.libraries[1].compat32 && wanted.forbid_device_nodes);
        assert_eq!(wanted.links[0].target, std::path::Path::new("c=d"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for line in [
            "",
            "update-ldcache",
            "cdi --library",
            "cdi --library a=b",
            "cdi --link /a",
            "cdi --odd /a=b",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
