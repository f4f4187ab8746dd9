//! Waiting for a child of ours to end: until it has, not until we look again. A run asks a dozen
//! programs, and half a nap for each is a good part of it.

use std::process::Child;
use std::thread::sleep;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// How long a look is put off where the kernel has no pidfd (before Linux 5.3), or a seccomp
/// filter refuses it.
const NAP: Duration = Duration::from_millis(5);

/// Returns when the child has ended, or the limit is over, or a signal came; which of them is
/// for `try_wait` to say. The child must not have been waited for: its number is its own until
/// then.
pub fn wait(child: &Child, limit: Duration) {
    let Ok(pidfd) = pidfd_open(Pid::from_child(child), PidfdFlags::empty()) else {
        sleep(limit.min(NAP));
        return;
    };
    // Too long for the kernel's type is as long as it takes.
    let limit = Timespec::try_from(limit).ok();
    let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], limit.as_ref());
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_end_is_noticed_and_the_limit_kept() {
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
