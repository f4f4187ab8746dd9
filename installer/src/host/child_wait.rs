//! Waits for a child process and returns as soon as it ends, without polling. A run starts a dozen
//! programs, and a polling interval for each would add up.

use std::process::Child;
use std::thread::sleep;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The polling interval if the kernel has no pidfd (before Linux 5.3) or a seccomp filter refuses
/// it.
const NAP: Duration = Duration::from_millis(5);

/// Returns when the child has ended, the limit is over, or a signal came; `try_wait` tells which.
/// The child must not have been reaped yet: only until then is its PID not reused.
pub fn wait(child: &Child, limit: Duration) {
    let Ok(pidfd) = pidfd_open(Pid::from_child(child), PidfdFlags::empty()) else {
        sleep(limit.min(NAP));
        return;
    };
    // A limit too long for the kernel's type means no limit.
    let limit = Timespec::try_from(limit).ok();
    let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], limit.as_ref());
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_end_is_noticed_and_the_time_limit_is_respected() {
        let mut child = Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let started = Instant::now();
        wait(&child, Duration::from_millis(20));
        assert!(child.try_wait().unwrap().is_none());
        drop(child.stdin.take());
        while child.try_wait().unwrap().is_none() {
            wait(&child, Duration::from_secs(60));
        }
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}
