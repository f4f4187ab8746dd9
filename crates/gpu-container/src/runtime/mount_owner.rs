//! Decides who mounts the driver's files: our hook if possible, else the low-level runtime, which
//! takes several times as long for each mount.

use std::path::Path;

use gpu_inject::oci::ContainerView;
use gpu_inject::oci::Mounter;
use gpu_inject::policy::Policy;
use gpu_inject::{Edits, live};

use super::program_kind::ProgramKind;

const RUNC: &str = "runc";
const CRUN: &str = "crun";
/// Low-level runtimes that run createContainer hooks in the container's mount namespace. Runtimes
/// that make a virtual machine or sandbox (Kata, gVisor) have to make the mounts themselves.
const START_HOOKS_IN_PLACE: [&str; 2] = [RUNC, CRUN];

/// Decides who mounts the files of `edits` in a container.
pub(super) fn choose(
    container: ContainerView<'_>,
    edits: &Edits,
    policy: &Policy,
    low_level: &Path,
) -> Mounter {
    let name = low_level.file_name().unwrap_or_default();
    let can_be_hook = policy.hook_mounts
        && START_HOOKS_IN_PLACE.iter().any(|known| name == *known)
        // In a user namespace the hook has only the rights of the container's root, who may not be able to reach every file.
        && !container.has_user_namespace()
        && !container.destinations().any(|d| is_below(d, edits))
        // crun makes mounts read-only before it runs hooks, runc afterwards.
        && (!container.read_only().any(|d| is_above(d, edits)) || is_runc(low_level))
        && live::can_mount_here();
    if can_be_hook {
        Mounter::Hook
    } else {
        Mounter::Runtime
    }
}

/// Whether this is runc itself, and not crun under that name: distributions and users install a link or a script
/// around crun if an engine knows only `runc`. runc is written in Go; crun and scripts are not.
fn is_runc(program: &Path) -> bool {
    let is_named = program.file_name().is_some_and(|name| name == RUNC);
    is_named && matches!(ProgramKind::of(program), Ok(ProgramKind::Go))
}

/// Whether a mount of the user is below one of ours. The hook mounts last, so it would hide the
/// user's mount. An unusual path counts as below.
fn is_below(destination: &str, edits: &Edits) -> bool {
    let is_odd = |part: &str| matches!(part, "" | "." | "..");
    let is_plain = destination
        .strip_prefix('/')
        .is_some_and(|is_below_mount| !is_below_mount.split('/').any(is_odd));
    let is_below_mount = |path: &Path| {
        let is_below_mount = destination
            .as_bytes()
            .strip_prefix(path.as_os_str().as_encoded_bytes());
        is_below_mount.is_some_and(|is_below_mount| {
            is_below_mount.len() > 1 && is_below_mount.starts_with(b"/")
        })
    };
    !is_plain || edits.mounts.iter().any(|mount| is_below_mount(&mount.path))
}

/// Whether a mount of the user contains one of ours. Also tries the path below `/usr`, because in
/// most images `/lib` is a link to `/usr/lib`.
fn is_above(destination: &str, edits: &Edits) -> bool {
    let usr = Path::new("/usr").join(destination.trim_start_matches('/'));
    let is_within = |path: &Path| path.starts_with(destination) || path.starts_with(&usr);
    edits.mounts.iter().any(|mount| is_within(&mount.path))
}

#[cfg(test)]
mod tests {
    use gpu_inject::{BindMount, MountKind};
    use serde_json::{Value, json};

    use super::*;

    fn chosen(config: &Value, low_level: &str, policy: &Policy) -> Mounter {
        let mount = |path: &str| BindMount {
            kind: MountKind::File,
            host_path: path.into(),
            path: path.into(),
            need: gpu_host::Need::Required,
        };
        let edits = Edits {
            mounts: vec![mount("/usr/lib/libcuda.so.580"), mount("/run/nvidia")],
            ..Edits::default()
        };
        choose(
            ContainerView::new(config),
            &edits,
            policy,
            Path::new(low_level),
        )
    }

    #[test]
    fn the_hook_mounts_only_if_the_result_is_the_same() {
        if !live::can_mount_here() {
            skips::skip(skips::Need::MountApi, "not root, or before Linux 5.12");
            return;
        }
        let usual = Policy::default();
        let programs = tempfile::tempdir().unwrap();
        let program = |path: &str, content: &[u8]| {
            let path = programs.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, content).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let runc = program("runc", b"\x7fELF some notes\x04\0\0\0Go\0\0buildid");
        let crun = program("crun", b"\x7fELF");
        let by_another_name = program("bin/runc", b"\x7fELF");
        let script = program("sbin/runc", b"#!/bin/sh\nexec crun \"$@\"\n");
        let mounts = |destinations: &[&str]| -> Value {
            let mounts = destinations.iter().map(|d| json!({"destination": d}));
            json!({"mounts": mounts.collect::<Vec<_>>()})
        };
        let plain = mounts(&["/proc", "/run", "/run/nvidia", "/run/nvidia2/x", "/usr/lib"]);
        for low_level in ["/usr/bin/runc", "/usr/bin/crun"] {
            assert_eq!(chosen(&plain, low_level, &usual), Mounter::Hook);
        }
        assert_eq!(chosen(&plain, "/usr/bin/runsc", &usual), Mounter::Runtime);
        for destination in [
            "/run/nvidia/mine",
            "/run//nvidia/mine",
            "/run/x/../nvidia/mine",
            "/run/nvidia/x/..",
            "run/nvidia/mine",
        ] {
            let config = mounts(&[destination]);
            assert_eq!(
                chosen(&config, "runc", &usual),
                Mounter::Runtime,
                "{destination}"
            );
        }
        for read_only in [
            json!({"root": {"readonly": true}}),
            json!({"mounts": [{"destination": "/lib", "options": ["rbind", "ro"]}]}),
        ] {
            assert_eq!(chosen(&read_only, &runc, &usual), Mounter::Hook);
            for other in [&crun, &by_another_name, &script, "runc"] {
                assert_eq!(
                    chosen(&read_only, other, &usual),
                    Mounter::Runtime,
                    "{other}"
                );
            }
        }
        let elsewhere = json!({"mounts": [{"destination": "/li", "options": ["ro"]}]});
        assert_eq!(chosen(&elsewhere, "crun", &usual), Mounter::Hook);
        let apart = json!({"linux": {"namespaces": [{"type": "pid"}, {"type": "user"}]}});
        assert_eq!(chosen(&apart, "runc", &usual), Mounter::Runtime);
        let as_before = Policy {
            hook_mounts: false,
            ..usual
        };
        assert_eq!(chosen(&plain, "runc", &as_before), Mounter::Runtime);
    }
}
