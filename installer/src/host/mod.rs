//! The host: gives access to its files through one rooted handle, and runs its programs.

pub mod accounts;
pub mod answer;
pub mod child_wait;
pub mod copied_etc;
pub mod daemon_process;
pub mod headroom;
pub mod last_words;
pub mod limits;
pub mod local_files;
pub mod not_known;
pub mod policy_file;
pub mod process;
pub mod service;
pub mod service_state;
pub mod signals;
pub mod start_flags;
pub mod systemd_scopes;
pub mod systemd_unit;
pub mod threads;
pub mod timestamp;
pub mod user;
pub mod user_environment;
pub mod wait_limit;

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gpu_host::{Root, packages, programs};
use gpu_inject::policy::Policy;
use nix::sys::signal::Signal;

use crate::error::Error;
use crate::error::program_fault::ProgramFault;
use crate::host::answer::Answer;
use crate::host::policy_file::HostPolicy;
use crate::host::process::{Output, PipeReader, kill, reader};
use crate::host::user::User;
use crate::host::wait_limit::{WaitLimit, Waited};

/// How long a killed program is waited for.
const FOR_THE_KILLED: Duration = Duration::from_secs(1);

/// The state file that records all runs that succeeded.
pub const RECEIPT: &str = "receipt.json";

/// A running host, or a directory tree.
#[derive(Clone, Debug)]
pub struct Host {
    root: Root,
    /// The directory in it that holds the driver's user-space files.
    pub driver_root: PathBuf,
    user: Option<User>,
    is_image: bool,
    /// The policy file, read on the first request; see [`Host::policy`].
    policy: Arc<Mutex<Option<Result<HostPolicy, Error>>>>,
}

/// Environment variables that change which engine and images a client uses. They are removed from
/// every command, since gpusetup names the engine itself (docker(1), "Environment variables";
/// Podman cmd/podman/registry/remote.go).
const CALLERS: [&str; 10] = [
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_TLS",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
    "DOCKER_API_VERSION",
    "DOCKER_CONTENT_TRUST",
    "DOCKER_DEFAULT_PLATFORM",
    "CONTAINER_HOST",
    "CONTAINER_CONNECTION",
];

impl Host {
    /// The host at `root`.
    pub fn open(root: &Path, driver_root: &Path) -> Result<Self, Error> {
        let root = Root::open(root).map_err(Error::file(root, "open"))?;
        Ok(Self {
            user: User::running(&root),
            driver_root: driver_root.to_owned(),
            is_image: false,
            policy: Arc::default(),
            root,
        })
    }

    /// The host at `root` with its policy. If the command line names no driver root, that of the policy is used, as
    /// when a container starts and when the spec is written at boot. An invalid policy names none; a caller that
    /// depends on it gets its error from [`Host::policy`].
    pub fn open_with_policy(root: &Path, driver_root: Option<&Path>) -> Result<Self, Error> {
        let mut host = Self::open(root, Path::new("/"))?;
        if let Some(driver_root) = driver_root {
            host.driver_root = driver_root.to_owned();
        } else if let Ok(file) = host.policy() {
            host.driver_root = file.policy.driver_root;
        }
        Ok(host)
    }

    /// The same host with an empty list of failed reads: a read that failed for another caller is no reason for the
    /// next step to fail.
    pub fn anew(&self) -> Result<Self, Error> {
        let path = self.root.path();
        Ok(Self {
            root: Root::open(path).map_err(Error::file(path, "open"))?,
            ..self.clone()
        })
    }

    /// The policy file as it was on the first request: all later callers get the same result, until
    /// [`Host::read_policy_again`].
    pub fn policy(&self) -> Result<HostPolicy, Error> {
        let mut read = self.policy.lock().unwrap_or_else(PoisonError::into_inner);
        match read.get_or_insert_with(|| HostPolicy::read(&self.root)) {
            Ok(file) => Ok(file.clone()),
            Err(e) => Err(e.clone()),
        }
    }

    /// The policy that applies in the engines that are set up here: the system's, or those of the user who runs this.
    /// `None` if it cannot be read.
    pub fn engine_policy(&self) -> Option<Policy> {
        // A user's engine may be told of another file by its environment, which is taken to be ours.
        let Some(_) = self.user().filter(|_| self.is_live()) else {
            return self.policy().ok().map(|file| file.policy);
        };
        let path = Policy::path_in_environment(self.root(), |name| std::env::var_os(name));
        Policy::load_from(self.root(), &path).ok()
    }

    /// The policy file as it is now, because it may have been written or rolled back.
    pub fn read_policy_again(&self) -> Result<HostPolicy, Error> {
        *self.policy.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.policy()
    }

    /// The same host as an image that is being built from within: its own engines do not run, and
    /// any visible GPUs are those of the build machine.
    pub fn into_image(self) -> Self {
        Self {
            user: None,
            is_image: true,
            ..self
        }
    }

    /// Whether this is an image that is being built, so that visible GPUs are another machine's.
    pub fn is_image(&self) -> bool {
        self.is_image
    }

    /// The same host as that user sees it.
    #[cfg(test)]
    pub fn seen_by(self, user: User) -> Self {
        Self {
            user: Some(user),
            ..self
        }
    }

    /// The user who runs this, if that is not root.
    pub fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    /// Its files.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The path of one of the state files, which record what gpusetup has done here.
    pub fn state(&self, name: &str) -> PathBuf {
        let dir = match &self.user {
            Some(user) => user.state.join("gpusetup"),
            None => "/var/lib/gpusetup".into(),
        };
        dir.join(name)
    }

    /// The lock file that every command holds while it changes this host.
    pub fn lock_file(&self) -> PathBuf {
        match &self.user {
            // A user without a session, who does not linger, has no runtime directory, or one that systemd is removing.
            Some(user) if self.is_live() && !user.has_runtime(&self.root) => {
                user.state.join("gpusetup.lock")
            }
            Some(user) => user.runtime.join("gpusetup.lock"),
            // Not in /run/lock: any user may write there, and could hold the lock forever.
            None => "/run/gpusetup.lock".into(),
        }
    }

    /// Fails if something that exists could not be read: we may have treated it as missing.
    pub fn ensure_fully_readable(&self) -> Result<(), Error> {
        match self.root.trouble() {
            None => Ok(()),
            Some(trouble) => Err(Error::Unread(trouble)),
        }
    }

    /// Whether programs can be run: the root is that of this running host.
    pub fn is_live(&self) -> bool {
        self.root.is_host() && !self.is_image
    }

    /// A file's text; `None` if it does not exist.
    pub fn text(&self, path: &Path) -> Result<Option<String>, Error> {
        match self.root.read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::file(path, "read")(e)),
        }
    }

    /// A file's text, for a search. Bytes that are not UTF-8 do not hide the rest. `None` if the file is missing or
    /// cannot be read; in the latter case [`Host::ensure_fully_readable`] fails.
    pub fn lossy_text(&self, path: &Path) -> Option<String> {
        let bytes = self.root.read(path).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether a program is on the usual PATH of this host.
    pub fn has_program(&self, name: &str) -> bool {
        self.program(name).is_some()
    }

    /// Finds a program on the usual PATH of this host; a name that is an absolute path is only
    /// checked for existence.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        // `join` with an absolute path returns that path.
        let mut places = programs::DIRS.iter().map(|dir| Path::new(dir).join(name));
        places.find(|path| self.root.exists(path))
    }

    /// The version of an installed package, if the package manager stores it as plain text.
    pub fn package_version(&self, names: &[&str]) -> Option<String> {
        packages::version(&self.root, names)
    }

    /// The third word of what `PROGRAM --version` prints, which is the version of Docker, containerd
    /// and others: `Docker version 26.1.5, build a72d7cd`. `None` in a directory tree.
    pub fn version(&self, program: &str) -> Answer<String> {
        if !self.is_live() {
            return Answer::None;
        }
        let argv = [program, "--version"];
        match self.run(&argv, Duration::from_secs(10)) {
            Ok(out) => {
                let word = out.stdout.split_whitespace().nth(2).unwrap_or_default();
                let version = word.trim_end_matches(',').trim_start_matches('v');
                if out.has_succeeded() && version.starts_with(|c: char| c.is_ascii_digit()) {
                    Answer::Known(version.to_owned())
                } else {
                    Answer::Unknown(format!("{}: {}", argv.join(" "), out.last_line()))
                }
            }
            Err(e) => Answer::Unknown(e.to_string()),
        }
    }

    /// The same; if the program does not print its version, the version of its package.
    pub fn version_or_package(&self, program: &str, packages: &[&str]) -> Answer<String> {
        match self.version(program) {
            Answer::Known(version) => Answer::Known(version),
            not => self.package_version(packages).map_or(not, Answer::Known),
        }
    }

    /// A command to run here whose output is read. It runs in its own process group: Ctrl-C on our
    /// terminal is meant for us, and must not interrupt a `systemctl restart`.
    pub fn command(&self, argv: &[impl AsRef<str>]) -> Result<Command, Error> {
        let mut words = argv.iter().map(AsRef::as_ref);
        let Some(program) = words.next().filter(|_| self.is_live()) else {
            let line: Vec<&str> = argv.iter().map(AsRef::as_ref).collect();
            return Err(Error::program(&line.join(" "), ProgramFault::InTree));
        };
        let mut command = Command::new(program);
        for name in CALLERS {
            command.env_remove(name);
        }
        if let Some(user) = &self.user {
            // `su` and `sudo -u` do not set it, and `systemctl --user` needs it.
            command.env("XDG_RUNTIME_DIR", &user.runtime);
        }
        command
            .args(words)
            .env("LC_ALL", "C")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        Ok(command)
    }

    /// Runs a program until it ends; kills it once the limit is over.
    pub fn run(&self, argv: &[&str], limit: Duration) -> Result<Output, Error> {
        self.run_with_input(argv, limit, None)
    }

    /// The same, with a file as its standard input.
    pub fn run_with_input(
        &self,
        argv: &[&str],
        limit: Duration,
        input: Option<&Path>,
    ) -> Result<Output, Error> {
        self.run_within(argv, WaitLimit::all(limit), input)
    }

    /// Runs a program until it ends; kills it where its patience is over.
    pub fn run_patiently(&self, argv: &[&str], patience: WaitLimit) -> Result<Output, Error> {
        self.run_within(argv, patience, None)
    }

    fn run_within(
        &self,
        argv: &[&str],
        patience: WaitLimit,
        input: Option<&Path>,
    ) -> Result<Output, Error> {
        let (output, is_interrupted) = self.run_once(argv, patience, input)?;
        if !is_interrupted {
            return Ok(output);
        }
        // Ctrl-C reached the child between fork and exec, before it was in its own group, so the
        // program never ran: run it again.
        Ok(self.run_once(argv, patience, input)?.0)
    }

    /// Runs a program once; also returns whether SIGINT ended it.
    fn run_once(
        &self,
        argv: &[&str],
        patience: WaitLimit,
        input: Option<&Path>,
    ) -> Result<(Output, bool), Error> {
        let line = argv.join(" ");
        let broken = Error::not_run(&line);
        let mut command = self.command(argv)?;
        command.stdin(match input {
            Some(path) => {
                let file = std::fs::File::open(path).map_err(Error::file(path, "read"))?;
                Stdio::from(file)
            }
            None => Stdio::null(),
        });
        let mut child = command.spawn().map_err(broken)?;
        // Both pipes are read on threads: a program that fills one pipe while we read the other
        // would never end.
        let readers = (
            child.stdout.take().map(reader).transpose(),
            child.stderr.take().map(reader).transpose(),
        );
        let (stdout, stderr) = match readers {
            (Ok(stdout), Ok(stderr)) => (stdout, stderr),
            (Err(e), _) | (_, Err(e)) => {
                kill(&child);
                let _ = child.wait();
                return Err(broken(e));
            }
        };
        let started = Instant::now();
        let mut waited = Waited::new(patience);
        let status = loop {
            match child.try_wait().map_err(broken)? {
                Some(status) => break status,
                None if waited.is_over(&child) => {
                    kill(&child);
                    // A process that sleeps in a driver does not end before the driver lets it.
                    child_wait::wait(&child, FOR_THE_KILLED);
                    let _ = child.try_wait();
                    let fault = ProgramFault::TooSlow(started.elapsed().as_secs());
                    return Err(Error::program(&line, fault));
                }
                None => child_wait::wait(&child, waited.step()),
            }
        };
        let code = status.code();
        log::debug!(
            "{line}: {} after {:.1} s",
            code.map_or("killed".to_owned(), |c| format!("exit {c}")),
            started.elapsed().as_secs_f32()
        );
        let output = Output {
            code,
            stdout: stdout.map(PipeReader::text).unwrap_or_default(),
            stderr: stderr.map(PipeReader::text).unwrap_or_default(),
        };
        Ok((output, status.signal() == Some(Signal::SIGINT as i32)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live() -> Host {
        Host::open(Path::new("/"), Path::new("/")).unwrap()
    }

    #[test]
    fn a_daemon_that_keeps_the_pipe_is_not_waited_for() {
        let started = Instant::now();
        let script = "echo said; exec sleep 30 & exit 3";
        let out = live().run(&["sh", "-c", script], Duration::from_secs(9));
        let out = out.unwrap();
        assert_eq!((out.code, out.last_line()), (Some(3), "said"));
        assert!(started.elapsed() < Duration::from_secs(9));
    }

    #[test]
    fn a_program_that_tells_no_version_is_not_one_without() {
        assert!(live().version("false").unknown().is_some());
        assert!(live().version("/no/such/program").unknown().is_some());
        let tree = tempfile::tempdir().unwrap();
        let tree = Host::open(tree.path(), Path::new("/")).unwrap();
        assert_eq!(tree.version("false"), Answer::None);
    }

    /// All callers get the same result until the file is read again.
    #[test]
    fn the_policy_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("etc/nvidia-container-runtime/config.toml");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let write = |root: &str| {
            let text = format!("[nvidia-container-cli]\nroot = \"{root}\"\n");
            std::fs::write(&file, text).unwrap();
        };
        write("/one");
        let host = Host::open_with_policy(dir.path(), None).unwrap();
        assert_eq!(host.driver_root, Path::new("/one"));
        write("/two");
        let root_of = |read: Result<HostPolicy, Error>| read.unwrap().policy.driver_root;
        assert_eq!(root_of(host.anew().unwrap().policy()), Path::new("/one"));
        assert_eq!(root_of(host.read_policy_again()), Path::new("/two"));
        std::fs::write(&file, "[").unwrap();
        let broken = Host::open_with_policy(dir.path(), None).unwrap();
        assert_eq!(broken.driver_root, Path::new("/"));
        assert!(broken.policy().is_err());
    }

    #[test]
    fn past_its_limit_a_program_goes_with_all_it_started() {
        let marker = format!("3{}", std::process::id());
        let script = format!("sleep {marker} & sleep {marker}");
        let out = live().run(&["sh", "-c", &script], Duration::from_millis(300));
        assert!(out.unwrap_err().to_string().contains("not done after"));
        std::thread::sleep(Duration::from_millis(100));
        let running = std::fs::read_dir("/proc").unwrap().flatten().any(|p| {
            let line = std::fs::read(p.path().join("cmdline")).unwrap_or_default();
            line == format!("sleep\0{marker}\0").as_bytes()
        });
        assert!(!running);
    }

    /// Ctrl-C goes to the terminal's foreground group, and child processes inherit blocked signals.
    #[test]
    fn a_program_has_its_own_group_and_no_blocked_signals() {
        crate::host::limits::take();
        let script = "ps -o pgid= -p $$; echo $$; grep -E 'SigBlk|SigIgn' /proc/self/status";
        let out = live().run(&["sh", "-c", script], Duration::from_secs(9));
        let out = out.unwrap().stdout;
        let lines: Vec<&str> = out.lines().map(str::trim).collect();
        assert_eq!(lines[0], lines[1], "{out}");
        assert!(lines[2].ends_with("0000000000000000"), "{out}");
        // SIGABRT, SIGPIPE and SIGXFSZ are not ignored either. All other signals are unchanged since our own start.
        let ignored = u64::from_str_radix(lines[3].rsplit(char::is_whitespace).next().unwrap(), 16);
        let ours = [Signal::SIGABRT, Signal::SIGPIPE, Signal::SIGXFSZ].map(|s| 1 << (s as u64 - 1));
        assert_eq!(ignored.unwrap() & ours.iter().sum::<u64>(), 0, "{out}");
    }

    /// Our containers must run in the engine that was set up, whatever `docker` and `podman` mean
    /// in the user's shell.
    #[test]
    fn variables_of_the_shell_for_engines_are_not_passed_on() {
        let command = live().command(&["docker", "ps"]).unwrap();
        let removed: Vec<&str> = command
            .get_envs()
            .filter(|(_, value)| value.is_none())
            .filter_map(|(name, _)| name.to_str())
            .collect();
        for name in CALLERS {
            assert!(removed.contains(&name), "{name}");
        }
        assert!(command.get_args().eq(["ps"]));
        let tree = tempfile::tempdir().unwrap();
        let tree = Host::open(tree.path(), Path::new("/")).unwrap();
        assert!(tree.command(&["true"]).is_err());
    }

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n";

    #[test]
    fn the_last_line_of_a_program_is_reported() {
        let output = |stdout: &str, stderr: &str| {
            let out = Output {
                code: Some(125),
                stdout: stdout.into(),
                stderr: stderr.into(),
            };
            out.last_line().to_owned()
        };
        assert_eq!(output("", ""), "it said nothing");
        assert_eq!(output("a\nb\n\n", "\n"), "b");
        let docker = "docker: Error response from daemon: no\n\nRun 'docker run --help' for more information\n";
        assert_eq!(
            output("x", docker),
            "docker: Error response from daemon: no"
        );
        assert_eq!(
            output("", "docker: no.\nSee 'docker run --help'.\n"),
            "docker: no."
        );
    }

    #[test]
    fn each_user_has_separate_directories() {
        let plain = User::new(1000, PASSWD, |_| None);
        assert_eq!(plain.name, "alice");
        assert_eq!(plain.config, Path::new("/home/alice/.config"));
        assert_eq!(plain.state, Path::new("/home/alice/.local/state"));
        assert_eq!(plain.runtime, Path::new("/run/user/1000"));
        let env = |name: &str| match name {
            "XDG_CONFIG_HOME" => Some("/x/config".to_owned()),
            "XDG_STATE_HOME" => Some("relative".to_owned()),
            "HOME" => Some("/x/home".to_owned()),
            _ => None,
        };
        let moved = User::new(7, PASSWD, env);
        assert_eq!(moved.name, "7");
        assert_eq!(moved.config, Path::new("/x/config"));
        assert_eq!(moved.state, Path::new("/x/home/.local/state"));
    }

    #[test]
    fn each_user_has_a_separate_state_and_lock() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::open(dir.path(), Path::new("/")).unwrap();
        assert_eq!(host.lock_file(), Path::new("/run/gpusetup.lock"));
        let host = host.seen_by(User::new(1000, PASSWD, |_| None));
        assert_eq!(host.lock_file(), Path::new("/run/user/1000/gpusetup.lock"));
        assert_eq!(
            host.state("receipt.json"),
            Path::new("/home/alice/.local/state/gpusetup/receipt.json")
        );
    }
}
