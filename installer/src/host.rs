//! The host: its files through one rooted handle, its programs through one door.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gpu_host::Root;

use crate::error::Error;

/// A running host, or a directory tree.
#[derive(Clone, Debug)]
pub struct Host {
    root: Root,
    /// Where in it the driver's user space lives.
    pub driver_root: PathBuf,
}

/// What a program said.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Exit code 0.
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// The last line that says something, standard error first.
    pub fn last_line(&self) -> &str {
        let last = |text: &str| text.lines().rfind(|l| !l.trim().is_empty()).map(str::len);
        let text = if last(&self.stderr).is_some() {
            &self.stderr
        } else {
            &self.stdout
        };
        text.lines()
            .rfind(|l| !l.trim().is_empty())
            .unwrap_or("it said nothing")
            .trim()
    }
}

impl Host {
    /// The host at `root`.
    pub fn open(root: &Path, driver_root: &Path) -> Result<Self, Error> {
        Ok(Self {
            root: Root::open(root).map_err(Error::file(root, "open"))?,
            driver_root: driver_root.to_owned(),
        })
    }

    /// Its files.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Whether programs can be run: the root is this running host's own.
    pub fn is_live(&self) -> bool {
        self.root.is_host()
    }

    /// A file's text; `None` where there is none.
    pub fn text(&self, path: &Path) -> Result<Option<String>, Error> {
        match self.root.read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::file(path, "read")(e)),
        }
    }

    /// Whether a program is on the usual PATH of this host.
    pub fn has_program(&self, name: &str) -> bool {
        [
            "/usr/local/sbin",
            "/usr/local/bin",
            "/usr/sbin",
            "/usr/bin",
            "/sbin",
            "/bin",
        ]
        .iter()
        .any(|dir| self.root.exists(Path::new(dir).join(name)))
    }

    /// Version of an installed Debian package, from dpkg's own table.
    pub fn package_version(&self, names: &[&str]) -> Option<String> {
        let status = self.root.read_to_string("/var/lib/dpkg/status").ok()?;
        status
            .split("\n\n")
            .find_map(|paragraph| {
                let field = |key: &str| {
                    paragraph
                        .lines()
                        .find_map(|l| l.strip_prefix(key)?.strip_prefix(": "))
                };
                let installed = field("Status")?.ends_with(" installed");
                (installed && names.contains(&field("Package")?)).then(|| field("Version"))?
            })
            .map(str::to_owned)
    }

    /// Runs a program to its end, or to the limit, when it is killed.
    pub fn run(&self, argv: &[&str], limit: Duration) -> Result<Output, Error> {
        self.run_with_input(argv, limit, None)
    }

    /// The same with a file on its standard input.
    pub fn run_with_input(
        &self,
        argv: &[&str],
        limit: Duration,
        input: Option<&Path>,
    ) -> Result<Output, Error> {
        let line = argv.join(" ");
        let broken = |e: std::io::Error| Error::failed(format!("{line}: {e}"), "");
        let Some((program, args)) = argv.split_first().filter(|_| self.is_live()) else {
            let why = format!("{line}: nothing is run in a directory tree");
            return Err(Error::failed(why, "leave --root out"));
        };
        let input = match input {
            Some(path) => Stdio::from(std::fs::File::open(path).map_err(broken)?),
            None => Stdio::null(),
        };
        let mut child = Command::new(program)
            .args(args)
            .env("LC_ALL", "C")
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(broken)?;
        // Read on threads: a program that fills one pipe while we wait on the other never ends.
        let stdout = child.stdout.take().map(reader);
        let stderr = child.stderr.take().map(reader);
        let end = Instant::now() + limit;
        let code = loop {
            match child.try_wait().map_err(broken)? {
                Some(status) => break status.code(),
                None if Instant::now() >= end => {
                    let _ = child.kill();
                    let _ = child.wait();
                    let why = format!("{line}: not done after {} s", limit.as_secs());
                    return Err(Error::failed(why, ""));
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let text = |handle: Option<std::thread::JoinHandle<String>>| {
            handle.and_then(|h| h.join().ok()).unwrap_or_default()
        };
        Ok(Output {
            code,
            stdout: text(stdout),
            stderr: text(stderr),
        })
    }
}

fn reader(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
