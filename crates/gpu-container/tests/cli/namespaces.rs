//! Pids across pid namespaces: the right container is configured or none, and the host's mounts do not
//! change. Each case runs in a mount namespace that serves as the host's, once in the machine's pid
//! namespace and once in a new one.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::process::Command;

use skips::Need;

use crate::parts::text;
use crate::place::{NOBODY, TestHost};
use crate::{LOOK, SEEN, can_run, contains_all};

const HOSTS: [&[&str]; 2] = [&[], &["--pid", "--fork", "--kill-child", "--mount-proc"]];
/// The options and root file system for `configure`: GPU 1.
const WHAT: &str = "--no-cgroups --device=1 --compute --utility ROOTFS";

/// The result of a script that ran on the host.
struct Ran {
    output: String,
    /// Mounts that the host has after the script and did not have before.
    left: String,
}

/// Runs a script on the host. `$F` has functions for all shells of the script: `configure [OPTION…]`
/// configures the image `$R`, `look` looks into it; `$CLI` is what `configure` runs.
fn on_host(place: &TestHost, host: &[&str], script: &str) -> Ran {
    let config = place.args("configure", 0);
    let what = place.args(WHAT, 0)[1..].join(" ");
    let functions = format!(
        "R={rootfs}\nCLI='{cli} {config}'\nWHAT='{what}'\nconfigure() {{ $CLI \"$@\" $WHAT; }}\n\
         look() {{ chroot $R /bin/busybox sh -c '{LOOK}'; }}\n",
        rootfs = place.path("rootfs").display(),
        cli = place.cli().display(),
        config = config.join(" "),
    );
    fs::write(place.path("functions"), functions).unwrap();
    let around = format!(
        "export D={dir} F={dir}/functions\ncat /proc/self/mountinfo >$D/before\n. $F\n\
         ( {script}\n)\ncat /proc/self/mountinfo >$D/after\n",
        dir = place.dir.path().display(),
    );
    let out = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .args(host)
        .args(["sh", "-c", &around])
        .output()
        .unwrap();
    let table = |name: &str| fs::read_to_string(place.path(name)).unwrap();
    let (before, after) = (table("before"), table("after"));
    let is_new = |line: &&str| !before.lines().any(|b| b == *line);
    Ran {
        output: text(&out),
        left: after.lines().filter(is_new).collect::<Vec<_>>().join("\n"),
    }
}

/// Asserts that the container got exactly what was requested, and the host nothing.
fn assert_given(host: &[&str], script: &str) {
    let place = TestHost::new();
    let ran = on_host(&place, host, script);
    assert_eq!(ran.left, "", "{script}\n{}", ran.output);
    contains_all(&format!("{script}\n{}", ran.output), &SEEN);
    assert!(!ran.output.contains("nvidia0"), "{}", ran.output);
    place.assert_host_unchanged();
}

/// Asserts that the request was refused for the reason `why`, and nothing was mounted.
fn assert_refused(host: &[&str], script: &str, why: &str) {
    let place = TestHost::new();
    fs::write(place.path("config.json"), r#"{"root": {"path": "rootfs"}}"#).unwrap();
    let ran = on_host(&place, host, script);
    assert_eq!(ran.left, "", "{script}\n{}", ran.output);
    let output = &ran.output;
    assert!(
        output.starts_with("nvidia-container-cli: container error: "),
        "{script}: {output}"
    );
    assert!(output.contains(why), "{script}: {why:?} in {output}");
    assert!(!place.path("rootfs/usr").exists(), "{script}: {output}");
    assert!(
        !place.path("rootfs/etc/ld.so.cache").exists(),
        "{script}: {output}"
    );
    place.assert_host_unchanged();
}

/// As LXC, Incus, Enroot, Apptainer and libnvidia-container's end-to-end test do.
#[test]
fn without_a_pid_the_programs_own_namespaces_are_configured() {
    if !can_run() {
        return;
    }
    for host in HOSTS {
        for flags in [
            "",
            // /proc stays the host's, where the container's pids belong to other processes.
            "--pid --fork",
            "--pid --fork --mount-proc",
            "--pid --fork --cgroup --ipc --uts",
            "--user --map-root-user",
            "--user --map-root-user --pid --fork",
        ] {
            let unshare = format!("unshare --mount --propagation private {flags} sh -c");
            assert_given(host, &format!("{unshare} '. $F; configure && look'"));
            // The program is the first process of the pid namespace, so its parent is outside.
            assert_given(
                host,
                &format!("{unshare} '. $F; (exec $CLI $WHAT) && look'"),
            );
            if flags.contains("--pid") {
                let own_proc = "mount --bind $R $R; mkdir $R/proc; mount -t proc proc $R/proc";
                assert_given(
                    host,
                    &format!("{unshare} '. $F; {own_proc}; configure && look'"),
                );
            }
        }
        let orphan = "unshare --mount sh -c '. $F; unshare --pid --fork $CLI $WHAT && look'";
        assert_given(host, orphan);
    }
}

/// Starts a container in its own pid namespace; `$P` is the pid of its first process on the host.
const CONTAINER: &str = "\
    unshare --mount --propagation private --pid --fork sleep 60 >&- 2>&- & U=$!\n\
    until P=$(pgrep -P $U sleep); do sleep 0.01; done\n\
    end() { kill -KILL $P; }\n";

/// The program runs in the container's pid namespace, where /proc is still the host's and has another
/// process with that pid.
#[test]
fn a_pid_is_looked_up_in_the_programs_own_pid_namespace() {
    if !can_run() {
        return;
    }
    for host in HOSTS {
        let script = format!(
            "{CONTAINER} nsenter --pid=/proc/$P/ns/pid sh -c '. $F; configure --pid=1' &&\
             nsenter --mount=/proc/$P/ns/mnt sh -c '. $F; look'; end"
        );
        assert_given(host, &script);
    }
}

#[test]
fn a_pid_of_another_pid_namespace_is_refused() {
    if !can_run() {
        return;
    }
    for host in HOSTS {
        let script = format!(
            "{CONTAINER} export P; unshare --pid --fork sh -c '. $F; configure --pid=$P'; end"
        );
        let why = ": no process of that number in the pid namespace of this one";
        assert_refused(host, &script, why);
    }
}

#[test]
fn a_process_in_the_programs_own_mount_namespace_is_refused() {
    if !can_run() {
        return;
    }
    let (pidfd, state) = (
        "exec python3 -c 'import os, sys; os.dup2(os.pidfd_open(os.getpid()), 9); \
         os.execv(sys.argv[1], sys.argv[1:])' $CLI --pidfd=9 $WHAT",
        "exec python3 -c 'import os, sys; print(f\"{{\\\"pid\\\": {os.getppid()}, \\\"bundle\\\": \\\"{sys.argv[1]}\\\"}}\")' $D | \
         $CLI --oci-state $WHAT",
    );
    let behind = |flags: &str| {
        format!("{flags} sleep 60 >&- 2>&- & sleep 0.2; configure --pid=$!; kill -KILL $!")
    };
    for host in HOSTS {
        for script in [
            "configure --pid=$$".to_owned(),
            behind(""),
            behind("unshare --pid --fork --kill-child"),
            behind("unshare --user --map-root-user --net"),
            "unshare --mount sh -c '. $F; configure --pid=$$'".to_owned(),
            "unshare --mount --pid --fork sh -c '. $F; configure --pid=$$'".to_owned(),
            pidfd.to_owned(),
            state.replace("exec ", ""),
        ] {
            assert_refused(host, &script, " is in our own mount namespace");
        }
    }
}

/// Also if the host is a container itself, and its first process is that of its own pid namespace.
#[test]
fn the_first_process_of_a_host_in_a_pid_namespace_is_refused() {
    if !can_run() {
        return;
    }
    let script = "sleep 60 >&- 2>&- & N=$!; export N; \
        unshare --mount --propagation private sh -c '. $F; configure --pid=$N'; kill -KILL $N";
    assert_refused(HOSTS[1], script, " is in the host's mount namespace");
}

/// The program runs in a mount namespace other than the host's, so the host's is not the program's own.
#[test]
fn the_machines_first_process_is_refused() {
    if !can_run() {
        return;
    }
    if fs::metadata("/proc/1/ns/mnt").is_err() {
        skips::skip(
            Need::HostNamespace,
            "the namespaces of the first process may not be seen",
        );
        return;
    }
    assert_refused(
        &[],
        "configure --pid=1",
        " is in the host's mount namespace",
    );
}

/// The machine's own mount namespace is refused, if the kernel tells which one that is.
#[test]
fn without_a_pid_the_hosts_own_namespace_is_refused() {
    if !can_run() {
        return;
    }
    let id = |path: &str| fs::metadata(path).map(|m| m.ino()).ok();
    let mount_namespace = id("/proc/self/ns/mnt");
    let is_first = mount_namespace == Some(0xEFFF_FFF8);
    let is_inits =
        mount_namespace == id("/proc/1/ns/mnt") && id("/proc/1/ns/pid") == Some(0xEFFF_FFFC);
    if !is_first && !is_inits {
        skips::skip(
            Need::HostNamespace,
            "this is not the mount namespace of the first process",
        );
        return;
    }
    let place = TestHost::new();
    let out = place.run(&format!("configure {WHAT}"), 0);
    let rootfs = place.path("rootfs");
    for path in [
        "dev/nvidia1",
        "dev/nvidiactl",
        "usr/bin/nvidia-smi",
        "usr/lib/libcuda.so.1.2.3",
    ] {
        let _ = nix::mount::umount(&rootfs.join(path));
    }
    let output = text(&out);
    let expected = "nvidia-container-cli: container error: this is the host's mount namespace";
    assert!(
        !out.status.success() && output.starts_with(expected),
        "{output}"
    );
    assert!(!rootfs.join("usr").exists(), "{output}");
    place.assert_host_unchanged();
}

/// The container has its own /proc at its root, which does not show our process. Its user namespace is
/// entered all the same, and files made in it belong to its root.
#[test]
fn the_user_namespace_is_entered_whatever_proc_the_container_has() {
    if !can_run() {
        return;
    }
    let place = TestHost::new();
    for owned in [
        "rootfs",
        "rootfs/etc",
        "rootfs/dev",
        "rootfs/bin",
        "rootfs/tmp",
    ] {
        chown(place.path(owned), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let script = "\
        setpriv --reuid 65534 --regid 65534 --clear-groups unshare --user --map-root-user --mount \
            --pid --fork --mount-proc sleep 60 >&- 2>&- & U=$!\n\
        until P=$(pgrep -P $U sleep); do sleep 0.01; done\n\
        configure --pid=$P; stat -c %u $R/etc/ld.so.cache; kill -KILL $P";
    let ran = on_host(&place, &[], script);
    assert_eq!((ran.output.as_str(), ran.left.as_str()), ("65534\n", ""));
    place.assert_host_unchanged();
}
