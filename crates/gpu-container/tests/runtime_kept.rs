//! Containers of a real runc and a real crun keep their runtime while the list, PATH and our files change. Needs root, runc,
//! crun and a static busybox; says so and passes if one is missing.
#![allow(clippy::unwrap_used)]

mod bundle;

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bundle::parts::PROGRAM;
use bundle::{Below, RuncBundle, can_run};
use skips::Need;

/// No call of a runtime on a container may take longer, a refusal neither.
const BOUND: Duration = Duration::from_secs(20);

/// The files of a runtime, by any name.
fn programs(name: &str) -> Vec<String> {
    let dirs = gpu_host::programs::DIRS
        .iter()
        .map(|dir| Path::new(dir).join(name));
    let mut files: Vec<String> = dirs
        .filter_map(|path| Some(fs::canonicalize(path).ok()?.display().to_string()))
        .collect();
    files.sort();
    files.dedup();
    files
}

/// A command in whose mount namespace these files are no programs any more.
fn without(files: &[String]) -> Vec<&str> {
    let script = "while [ $1 != -- ]; do mount --bind /dev/null $1 || exit 9; shift; done; shift; exec \"$@\"";
    let mut words = vec![
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        script,
        "sh",
    ];
    words.extend(files.iter().map(String::as_str));
    words.push("--");
    words
}

/// A container of one low-level runtime.
struct Life {
    place: RuncBundle,
    below: Below,
}

impl Life {
    fn new(name: &str, below: Below) -> Self {
        let place = RuncBundle::new(name);
        // It ends by itself, too, if a check fails.
        place.make_config("1", "busybox sleep 120", |_| {});
        fs::write(place.path("broken.toml"), b"\xff{[=").unwrap();
        let usual = fs::read_to_string(place.path("config.toml")).unwrap();
        let usual = usual.replace("runtimes = [\"runc\"]", "runtimes = [\"runc\", \"crun\"]");
        fs::write(place.path("usual.toml"), usual).unwrap();
        Self { place, below }
    }

    /// Calls our runtime as on a host that is `host`, with this file as its config.toml. Tells whether it succeeded, and
    /// what it said.
    fn call(&self, host: &[&str], policy: &str, args: &[&str]) -> (bool, String) {
        let said = self.place.path("said");
        let file = || {
            Stdio::from(
                File::options()
                    .append(true)
                    .create(true)
                    .open(&said)
                    .unwrap(),
            )
        };
        let _ = fs::remove_file(&said);
        // To a file: the container keeps what it is started with.
        let mut child = self
            .place
            .beginning(host, self.below, &[PROGRAM, "runtime"])
            .env("NVIDIA_CTK_CONFIG_FILE_PATH", self.place.path(policy))
            .args(args)
            .stdin(Stdio::null())
            .stdout(file())
            .stderr(file())
            .spawn()
            .unwrap();
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            assert!(begin.elapsed() < BOUND, "{args:?} does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let said = String::from_utf8_lossy(&fs::read(&said).unwrap()).into_owned();
        (status.success(), said)
    }

    #[track_caller]
    fn does(&self, host: &[&str], policy: &str, args: &[&str]) -> String {
        let (is_done, said) = self.call(host, policy, args);
        assert!(
            is_done,
            "{args:?} by {:?} with {policy}: {said}",
            self.below
        );
        said
    }

    #[track_caller]
    fn create(&self, host: &[&str], policy: &str) {
        let bundle = self.place.path("bundle");
        self.does(
            host,
            policy,
            &[
                "create",
                "--bundle",
                bundle.to_str().unwrap(),
                self.place.id(),
            ],
        );
        let file = match self.below {
            Below::Crun => "status",
            Below::Runc | Below::RuncUnified => "state.json",
        };
        let file = self.state_dir().join(file);
        assert!(file.exists(), "{} was not made", file.display());
    }

    /// From its start to its end, with this file as config.toml.
    #[track_caller]
    fn goes_on(&self, host: &[&str], policy: &str) {
        let id = self.place.id();
        assert!(self.does(host, policy, &["state", id]).contains("created"));
        self.does(host, policy, &["start", id]);
        let seen = self.does(host, policy, &["exec", id, "/bin/busybox", "ls", "/dev"]);
        assert!(seen.contains("nvidia1"), "{seen}");
        self.ends(host, policy);
    }

    #[track_caller]
    fn ends(&self, host: &[&str], policy: &str) {
        let id = self.place.id();
        self.does(host, policy, &["kill", id, "KILL"]);
        let begin = Instant::now();
        while !self.does(host, policy, &["state", id]).contains("stopped") {
            assert!(begin.elapsed() < BOUND, "does not stop");
        }
        self.does(host, policy, &["delete", id]);
        assert!(!self.state_dir().exists());
    }

    fn state_dir(&self) -> std::path::PathBuf {
        self.place.path("state").join(self.place.id())
    }
}

#[test]
fn a_container_lives_on_with_its_runtime_while_the_list_changes() {
    if !can_run() {
        return;
    }
    for below in Below::available() {
        let (own, other) = match below {
            Below::Crun => ("config-crun.toml", "config.toml"),
            Below::Runc | Below::RuncUnified => ("config.toml", "config-crun.toml"),
        };
        for then in [other, "usual.toml", "broken.toml", "missing.toml"] {
            let life = Life::new("list", *below);
            life.create(&[], own);
            life.goes_on(&[], then);
        }
    }
}

/// The issue that was seen with CRI-O: a package brings runc, or takes it away, while containers run.
#[test]
fn a_container_lives_on_while_runtimes_come_and_go() {
    if !can_run() || !skips::has(&[Need::Unshare, Need::Crun]) {
        return;
    }
    let files = programs("runc");
    let without_runc = without(&files);
    if Below::available().contains(&Below::Crun) {
        let life = Life::new("comes", Below::Crun);
        life.create(&without_runc, "usual.toml");
        life.goes_on(&[], "usual.toml");
    }
    let life = Life::new("goes", Below::Runc);
    life.create(&[], "usual.toml");
    let id = life.place.id();
    life.does(&[], "usual.toml", &["start", id]);
    for args in [
        &["state", id][..],
        &["exec", id, "true"],
        &["kill", id, "KILL"],
        &["delete", "--force", id],
    ] {
        let (is_done, said) = life.call(&without_runc, "usual.toml", args);
        assert!(
            !is_done && said.contains("was made by runc"),
            "{args:?}: {said}"
        );
        assert!(said.contains("install runc again"), "{args:?}: {said}");
    }
    life.ends(&[], "usual.toml");
}
