//! Commands and flags of low-level runtimes, as far as a reader needs them to tell a flag's value from a container's ID.

use std::ffi::OsStr;

/// Commands of low-level runtimes (runc 1.3, crun 1.28, youki 0.5).
pub(super) const COMMANDS: [&str; 17] = [
    "create",
    "run",
    "start",
    "state",
    "kill",
    "delete",
    "exec",
    "ps",
    "list",
    "pause",
    "resume",
    "update",
    "events",
    "checkpoint",
    "restore",
    "spec",
    "features",
];

/// Global flags that take a value (runc 1.3 `runc --help`, crun 1.21 `crun --help`, youki's `-r` and `-l`).
pub(super) const GLOBAL_WITH_VALUE: [&str; 9] = [
    "log",
    "log-format",
    "log-level",
    "root",
    "criu",
    "rootless",
    "cgroup-manager",
    "r",
    "l",
];
/// Global flags that take none.
pub(super) const GLOBAL_ALONE: [&str; 5] = ["debug", "systemd-cgroup", "version", "v", "s"];

/// Flags of commands that take a value, each in all commands that have it (runc 1.3, crun 1.28).
const WITH_VALUE: [&str; 46] = [
    "additional-gids",
    "apparmor",
    "blkio-weight",
    "cap",
    "cgroup",
    "config",
    "console-socket",
    "cpu-burst",
    "cpu-idle",
    "cpu-period",
    "cpu-quota",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "cpu-share",
    "cpuset-cpus",
    "cpuset-mems",
    "cwd",
    "empty-ns",
    "env",
    "file",
    "format",
    "image-path",
    "interval",
    "kernel-memory",
    "kernel-memory-tcp",
    "l3-cache-schema",
    "lsm-mount-context",
    "lsm-profile",
    "manage-cgroups-mode",
    "mem-bw-schema",
    "memory",
    "memory-reservation",
    "memory-swap",
    "network-lock",
    "page-server",
    "parent-path",
    "pid-file",
    "pidfd-socket",
    "pids-limit",
    "preserve-fds",
    "process",
    "process-label",
    "resources",
    "status-fd",
    "user",
    "work-path",
];

/// Whether the next word is the value of this flag of a command. The same letter can be a flag with and without a value.
pub(super) fn takes_value(command: &OsStr, flag: &str) -> bool {
    let of_one_letter = match command.to_str() {
        Some("exec") => "cegpu",
        Some("update") => "r",
        Some("create" | "run" | "ps" | "list" | "spec") => "f",
        _ => "",
    };
    WITH_VALUE.contains(&flag) || flag.len() == 1 && of_one_letter.contains(flag)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use skips::Need;

    use super::*;

    /// The flags in a help text, each with whether it takes the next word as its value.
    fn flags_in(help: &str) -> Vec<(String, bool)> {
        let mut found = Vec::new();
        let lines = help.lines().map(str::trim_start);
        for line in lines.filter(|line| line.starts_with('-')) {
            let names = line.split("  ").next().unwrap();
            // `--env value, -e value` of runc, `-e, --env=ENV` of crun, where `--tty[=TTY]` takes no other word.
            let takes = names.contains(" value") || names.contains('=') && !names.contains("[=");
            for name in names.split(", ") {
                let name = name.split([' ', '=', '[']).next().unwrap();
                found.push((name.trim_start_matches('-').to_owned(), takes));
            }
        }
        found
    }

    #[test]
    fn the_flags_of_the_runtimes_that_are_here_are_known() {
        let mut wrong = Vec::new();
        for (program, need) in [("runc", Need::Runc), ("crun", Need::Crun)] {
            if !skips::has(&[need]) {
                continue;
            }
            let help = |words: &[&str]| {
                let out = Command::new(program).args(words).output().unwrap();
                flags_in(&String::from_utf8_lossy(&out.stdout))
            };
            let global = help(&["--help"]);
            assert!(global.contains(&("root".into(), true)), "{global:?}");
            for (flag, takes) in global {
                if GLOBAL_WITH_VALUE.contains(&flag.as_str()) != takes {
                    wrong.push(format!("{program} {flag}: {takes}"));
                }
            }
            for command in COMMANDS {
                // The bundle is read.
                let all = help(&[command, "--help"]).into_iter();
                for (flag, takes) in all.filter(|(flag, _)| flag != "bundle" && flag != "b") {
                    if takes_value(OsStr::new(command), &flag) != takes {
                        wrong.push(format!("{program} {command} {flag}: {takes}"));
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
