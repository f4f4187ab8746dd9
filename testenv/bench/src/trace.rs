//! Counts what strace wrote of a life.

use std::collections::HashMap;

use crate::protocol::Calls;

/// Whose program a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// The low-level runtime, or the container's program.
    Theirs,
    /// The shim, a hook, or a program that one of them started.
    Added,
}

/// Names of the low-level runtime and of the container's program.
fn whose(path: &str) -> Whose {
    let name = path.rsplit('/').next().unwrap_or_default();
    let is_theirs = matches!(name, "runc" | "crun" | "busybox")
        // runc and crun start themselves again from a sealed copy.
        || path.starts_with("/proc/");
    if is_theirs {
        Whose::Theirs
    } else {
        Whose::Added
    }
}

/// Counts the lines of `strace -f`, which start with a process id.
pub(crate) fn count(text: &str) -> Calls {
    let mut calls = Calls::default();
    let mut now: HashMap<u32, Whose> = HashMap::new();
    let children = children(text);
    for line in text.lines() {
        let Some((pid, rest)) = line.split_once(' ') else {
            continue;
        };
        let Ok(pid) = pid.parse::<u32>() else {
            continue;
        };
        let rest = rest.trim_start();
        let current = *now
            .entry(pid)
            .or_insert_with(|| children.get(&pid).copied().unwrap_or(Whose::Theirs));
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        // The second half of a call that another process's call interrupted.
        let is_rest = rest.starts_with("<...");
        if !is_rest {
            calls.all += 1;
            calls.ours += u64::from(current == Whose::Added);
        }
        if let Some(path) = executed(rest) {
            let next = whose(path);
            calls.programs += u64::from(next == Whose::Added);
            now.insert(pid, next);
        }
        let name = rest.trim_start_matches("<... ");
        let forks = ["clone(", "clone3(", "fork(", "vfork("]
            .iter()
            .any(|c| name.starts_with(c));
        if current == Whose::Added && forks && !name.contains("CLONE_THREAD") {
            calls.processes += 1;
        }
    }
    // A hook is a process that the low-level runtime starts.
    calls.processes += hooks(text, &children);
    calls
}

/// The program that a line shows to be started.
fn executed(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("execve(\"")?;
    let path = rest.split('"').next()?;
    // The line of a call that never returned is cut off where another process's line came.
    (line.ends_with("= 0") || line.ends_with("<unfinished ...>")).then_some(path)
}

/// For processes whose first line may come before their parent's: whose program they start as.
fn children(text: &str) -> HashMap<u32, Whose> {
    let mut now: HashMap<u32, Whose> = HashMap::new();
    let mut begun = HashMap::new();
    for line in text.lines() {
        let Some((pid, rest)) = line.split_once(' ') else {
            continue;
        };
        let Ok(pid) = pid.parse::<u32>() else {
            continue;
        };
        let rest = rest.trim_start();
        if let Some(path) = executed(rest) {
            now.insert(pid, whose(path));
        }
        let name = rest.trim_start_matches("<... ");
        let is_fork = ["clone", "fork", "vfork"]
            .iter()
            .any(|c| name.starts_with(c));
        if is_fork && let Some(child) = rest.rsplit("= ").next().and_then(|n| n.trim().parse().ok())
        {
            let current = now.get(&pid).copied().unwrap_or(Whose::Theirs);
            begun.insert(child, current);
            now.entry(child).or_insert(current);
        }
    }
    begun
}

/// Programs of ours that a process of the low-level runtime became, except the shim, which is the first program of
/// its trace.
fn hooks(text: &str, begun: &HashMap<u32, Whose>) -> u64 {
    let started = text.lines().filter_map(|line| {
        let (pid, rest) = line.split_once(' ')?;
        Some((pid.parse().ok()?, executed(rest.trim_start())?))
    });
    let mut known: HashMap<u32, Whose> = HashMap::new();
    let mut starts = 0;
    for (at, (pid, path)) in started.enumerate() {
        let next = whose(path);
        let before = known.insert(pid, next).or(begun.get(&pid).copied());
        if next == Whose::Added && at > 0 && before != Some(Whose::Added) {
            starts += 1;
        }
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shim_is_distinguished_from_the_runtime_it_becomes() {
        let calls = count(
            "10 execve(\"/usr/bin/gpu-container-runtime\", [], 0x0) = 0\n\
             10 openat(AT_FDCWD, \"config.json\", O_RDONLY) = 3\n\
             10 execve(\"/usr/sbin/runc\", [], 0x0) = 0\n\
             10 clone(child_stack=NULL, flags=CLONE_VM|CLONE_THREAD) = 11\n\
             11 futex(0x0, FUTEX_WAIT) = 0\n\
             10 exit_group(0) = ?\n\
             10 +++ exited with 0 +++\n",
        );
        assert_eq!(
            calls,
            Calls {
                ours: 2,
                all: 6,
                programs: 1,
                processes: 0
            }
        );
    }

    #[test]
    fn a_hook_and_its_children_are_counted() {
        let calls = count(
            "10 execve(\"/usr/sbin/runc\", [], 0x0) = 0\n\
             12 close(3 <unfinished ...>\n\
             10 clone(child_stack=NULL, flags=SIGCHLD) = 12\n\
             12 <... close resumed>) = 0\n\
             12 execve(\"/usr/bin/hook\", [], 0x0) = 0\n\
             12 clone(child_stack=NULL, flags=CLONE_VM|CLONE_THREAD) = 13\n\
             13 read(0, \"\", 1) = 0\n\
             12 vfork( <unfinished ...>\n\
             14 execve(\"/sbin/ldconfig\", [], 0x0) = -1 ENOENT\n\
             14 execve(\"/bin/ldconfig\", [], 0x0 <unfinished ...>\n\
             12 <... vfork resumed>) = 14\n\
             14 <... execve resumed>) = 0\n\
             14 write(1, \"\", 1) = 1\n",
        );
        // Process 12: clone and vfork; 13: the read; 14: both exec calls and the write.
        assert_eq!((calls.ours, calls.all, calls.programs), (6, 10, 2));
        // The hook and its ldconfig.
        assert_eq!(calls.processes, 2);
    }
}
