//! Starts the containers again that a restart of Docker stopped, until all of them run or nothing
//! gets better any more.
//!
//! A Docker that has just started is busy: it starts the containers with a restart policy itself,
//! and containerd may still hold the task of a container that has stopped. `docker start` then
//! fails with `task already exists`, and works seconds later.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::client::Client;
use super::containers::up;
use crate::error::still_down::StillDown;
use crate::host::Host;
use crate::host::answer::Answer;

/// How long one `docker start` may take.
const START: Duration = Duration::from_secs(60);

/// How long to try.
#[derive(Clone, Copy, Debug)]
pub struct RetryTimes {
    /// Ends after this time in which no further container has come back.
    pub limit: Duration,
    /// The first wait between two looks; each later one is twice as long, up to ten times this.
    pub pause: Duration,
}

impl RetryTimes {
    /// For a real Docker. On a busy host with 150 containers, `task already exists` lasted for
    /// some seconds.
    pub const USUAL: Self = Self {
        limit: Duration::from_secs(60),
        pause: Duration::from_millis(500),
    };
}

/// What became of the attempts to start a container.
#[derive(Default)]
struct Attempt {
    /// The reason of the last failure; `None` after a success.
    failed: Option<String>,
    /// `docker start` has succeeded.
    has_started: bool,
    /// There is no point in trying again.
    is_over: bool,
}

struct Comeback<'a> {
    host: &'a Host,
    client: &'a Client,
    attempts: BTreeMap<&'a str, Attempt>,
}

/// Starts them all. Returns those that do not run in the end.
pub fn start_again(
    host: &Host,
    client: &Client,
    stopped: &[String],
    times: RetryTimes,
) -> Vec<StillDown> {
    if stopped.is_empty() {
        // Not even a question: the socket of a stopped Docker would start it.
        return Vec::new();
    }
    let attempts = stopped.iter().map(|n| (n.as_str(), Attempt::default()));
    let mut comeback = Comeback {
        host,
        client,
        attempts: attempts.collect(),
    };
    comeback.run(times);
    comeback.still_down()
}

impl<'a> Comeback<'a> {
    fn run(&mut self, times: RetryTimes) {
        let mut down = self.settled(times);
        let mut pause = times.pause;
        let mut end = Instant::now() + times.limit;
        while !down.is_empty() && Instant::now() < end {
            for name in &down {
                self.start(name);
                if Instant::now() >= end {
                    break;
                }
            }
            // One that has just been started may end at once.
            sleep(pause);
            let now = self.to_start();
            if now.len() < down.len() {
                end = Instant::now() + times.limit;
                pause = times.pause;
            } else {
                pause = (2 * pause).min(10 * times.pause);
            }
            down = now;
        }
    }

    /// Those that do not run once no further one comes up: Docker may still be starting some.
    fn settled(&self, times: RetryTimes) -> Vec<&'a str> {
        let mut down = self.to_start();
        let end = Instant::now() + times.limit;
        while !down.is_empty() && Instant::now() < end {
            sleep(times.pause);
            let now = self.to_start();
            if now.len() == down.len() {
                return now;
            }
            down = now;
        }
        down
    }

    /// Those that do not run and can be tried. If it is not known which run, a successful
    /// `docker start` counts: it also succeeds for a container that runs.
    fn to_start(&self) -> Vec<&'a str> {
        let now = up(self.host, self.client);
        let runs = |name: &str, attempt: &Attempt| match &now {
            Answer::Known(now) => now.iter().any(|n| n == name),
            Answer::None | Answer::Unknown(_) => attempt.has_started && attempt.failed.is_none(),
        };
        let down = self.attempts.iter();
        down.filter(|(name, attempt)| !attempt.is_over && !runs(name, attempt))
            .filter(|(name, attempt)| !(attempt.has_started && self.has_finished(name)))
            .map(|(name, _)| *name)
            .collect()
    }

    fn start(&mut self, name: &'a str) {
        let started = self.client.start(self.host, name, START);
        let attempt = self.attempts.entry(name).or_default();
        match started {
            Ok(()) => {
                attempt.has_started = true;
                attempt.failed = None;
            }
            Err(why) => {
                // It was removed when it stopped (`--rm`), or by somebody else.
                attempt.is_over = why.to_ascii_lowercase().contains("no such container");
                attempt.failed = Some(why);
            }
        }
    }

    /// Whether it has done its work and ended: a job need not run for ever.
    fn has_finished(&self, name: &str) -> bool {
        self.end_of(name).is_some_and(|end| end == "exited 0")
    }

    /// Its state and exit code: `exited 1`.
    fn end_of(&self, name: &str) -> Option<String> {
        let format = "{{.State.Status}} {{.State.ExitCode}}";
        let lines = self.client.inspect(self.host, format, &[name]).ok()?;
        lines.into_iter().next()
    }

    fn still_down(&self) -> Vec<StillDown> {
        let down = self.to_start();
        let is_down = |name: &str, of: &Attempt| of.is_over || down.contains(&name);
        let all = self.attempts.iter().filter(|(name, of)| is_down(name, of));
        all.map(|(name, of)| StillDown {
            container: (*name).to_owned(),
            why: of.failed.clone().unwrap_or_else(|| self.why_ended(name)),
        })
        .collect()
    }

    /// Why one does not run that `docker start` has started.
    fn why_ended(&self, name: &str) -> String {
        match self.end_of(name).as_deref().and_then(|e| e.split_once(' ')) {
            Some(("exited", code)) => format!("it started, and ended with exit code {code}"),
            Some(("restarting", code)) => {
                format!("it ends again and again, with exit code {code}")
            }
            _ => "docker says no reason".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::super::containers::tests::docker;
    use super::*;

    const QUICK: RetryTimes = RetryTimes {
        limit: Duration::from_millis(900),
        pause: Duration::from_millis(20),
    };

    /// Runs a fake docker whose `ps` lists the files in a directory; `start` is the script for it,
    /// with `$4` as the name and `up` to make it run.
    fn down_after(start: &str, names: &[&str]) -> (Vec<(String, String)>, String) {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().display();
        let script = format!(
            "cd {at}; mkdir -p run; touch run/up; up() {{ touch run/$1; }}\n\
             case $3 in\n\
             ps) ls run ;;\n\
             inspect) cat end.$6 ;;\n\
             start) echo $4 >>started; {start} ;;\n\
             esac\n"
        );
        let host = Host::open(Path::new("/"), Path::new("/")).unwrap();
        let client = Client::by(&docker(dir.path(), &script));
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let down = start_again(&host, &client, &names, QUICK);
        let started = std::fs::read_to_string(dir.path().join("started")).unwrap_or_default();
        let pairs = down.into_iter().map(|d| (d.container, d.why)).collect();
        (pairs, started)
    }

    /// As docker prints it: the reason first, then a line that has none.
    const REFUSES: &str = "{ echo 'Error response from daemon: task x already exists' >&2; \
                           echo 'Error: failed to start containers: web' >&2; exit 1; }";

    #[test]
    fn one_whose_task_still_exists_is_started_later() {
        let script = format!("[ $(grep -c web started) -ge 3 ] || {REFUSES}; up $4");
        let (down, started) = down_after(&script, &["up", "web"]);
        assert_eq!(down, []);
        assert_eq!(started, "web\nweb\nweb\n");
    }

    #[test]
    fn one_that_never_starts_is_named_with_the_daemons_reason() {
        let script = format!("[ $4 != web ] || {REFUSES}; up $4");
        let (down, started) = down_after(&script, &["web", "db"]);
        let reason = "task x already exists".to_owned();
        assert_eq!(down, [("web".to_owned(), reason)]);
        assert!(started.contains("db") && started.matches("web").count() > 2);
    }

    #[test]
    fn one_that_is_gone_is_tried_once() {
        let script = "[ $4 != gone ] || { echo 'Error response from daemon: No such container: gone' >&2; exit 1; }; up $4";
        let (down, started) = down_after(script, &["gone", "web"]);
        assert_eq!(
            down,
            [("gone".to_owned(), "No such container: gone".to_owned())]
        );
        assert_eq!(started.matches("gone").count(), 1);
        assert!(started.contains("web"));
    }

    #[test]
    fn a_job_that_has_ended_well_is_not_down_and_one_that_failed_is() {
        let script =
            "case $4 in job) echo exited 0 >end.job ;; bad) echo exited 3 >end.bad ;; esac";
        let (down, _) = down_after(script, &["job", "bad"]);
        let reason = "it started, and ended with exit code 3".to_owned();
        assert_eq!(down, [("bad".to_owned(), reason)]);
    }

    /// `docker ps` alone counts it as running between two of its ends.
    #[test]
    fn one_that_ends_again_and_again_is_down() {
        let dir = tempfile::tempdir().unwrap();
        let script = "case \"$3 $*\" in\n\
             ps*filter*) echo up ;;\n\
             ps*) echo up; echo loop ;;\n\
             inspect*) echo restarting 1 ;;\n\
             esac\n";
        let host = Host::open(Path::new("/"), Path::new("/")).unwrap();
        let client = Client::by(&docker(dir.path(), script));
        let names = ["up", "loop"].map(str::to_owned);
        let down = start_again(&host, &client, &names, QUICK);
        let pairs: Vec<(&str, &str)> = down
            .iter()
            .map(|d| (d.container.as_str(), d.why.as_str()))
            .collect();
        let reason = "it ends again and again, with exit code 1";
        assert_eq!(pairs, [("loop", reason)]);
    }

    /// Docker starts those with a restart policy itself, which takes a moment.
    #[test]
    fn nothing_is_started_that_docker_starts_itself() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().display();
        // Each `ps` sees one more.
        let script = format!(
            "cd {at}; case $3 in\n\
             ps) echo x >>looks; n=$(grep -c x looks); for c in a b c; do [ $n -le 0 ] || echo $c; n=$((n-1)); done ;;\n\
             start) echo $4 >>started ;;\n\
             esac\n"
        );
        let host = Host::open(Path::new("/"), Path::new("/")).unwrap();
        let client = Client::by(&docker(dir.path(), &script));
        let names = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(start_again(&host, &client, &names, QUICK), []);
        assert!(!dir.path().join("started").exists());
    }
}
