//! Every program name that packages install: all programs that an engine, a CDI spec or a hooks.d
//! file may start for a container are the one static program. That it is static is checked where it
//! is built (`testenv/packages/check`, `packaging/build-static.sh`).
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_gpu-container");

/// Paths that are written in NVIDIA's packages, dockerd, hooks.d files, CDI specs of nvidia-ctk (before
/// and since 1.17), of the device plugin and of the GPU Operator, and in our own specs.
const NAMED_BY_OTHERS: [&str; 14] = [
    "/usr/bin/nvidia-container-runtime",
    "/usr/bin/nvidia-container-runtime.cdi",
    "/usr/bin/nvidia-container-runtime.legacy",
    "/usr/bin/nvidia-container-runtime-hook",
    "/usr/bin/nvidia-container-toolkit",
    "/usr/bin/nvidia-container-cli",
    "/usr/bin/nvidia-cdi-hook",
    "/usr/bin/nvidia-ctk",
    "/usr/bin/gpu-container-runtime",
    "/usr/bin/gpu-container-hook",
    "/usr/bin/gpu-container-cli",
    "/usr/lib/gpu-container/bin/nvidia-container-runtime-hook",
    "/usr/lib/gpu-container/bin/nvidia-cdi-hook",
    "/usr/lib/gpu-container/bin/nvidia-ctk",
];

fn packaging(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../packaging")
        .join(path)
}

/// The programs of all packages, with a stand-in for gpusetup that prints its arguments and environment.
struct Staged {
    dir: tempfile::TempDir,
}

impl Staged {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        fs::copy(PROGRAM, bin.join("gpu-container")).unwrap();
        let stand_in = bin.join("gpusetup");
        fs::write(&stand_in, "#!/bin/sh\necho \"gpusetup: $*\"\nenv\n").unwrap();
        fs::set_permissions(&stand_in, fs::Permissions::from_mode(0o755)).unwrap();
        let staged = Self { dir };
        for (script, args) in [
            ("stage.sh", vec![staged.path("/"), bin]),
            ("stage-names", vec![staged.path("/")]),
        ] {
            let done = Command::new(packaging(script)).args(&args).output();
            let done = done.unwrap();
            assert!(done.status.success(), "{script}: {done:?}");
        }
        staged
    }

    fn path(&self, path: &str) -> PathBuf {
        let path = path.trim_start_matches('/');
        self.dir.path().join("tree").join(path)
    }

    /// Each program name, with the file that it resolves to.
    fn programs(&self) -> BTreeMap<String, String> {
        let mut programs = BTreeMap::new();
        let mut dirs = vec![self.path("/")];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).unwrap().flatten() {
                let path = entry.path();
                if entry.file_type().unwrap().is_dir() {
                    dirs.push(path);
                    continue;
                }
                let real = path.canonicalize();
                let real = real.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                // Units are links as well, but not executable.
                if real.metadata().unwrap().permissions().mode() & 0o111 != 0 {
                    programs.insert(self.inner(&path), self.inner(&real));
                }
            }
        }
        programs
    }

    fn inner(&self, path: &Path) -> String {
        let root = self.path("/").canonicalize().unwrap();
        let at = path
            .strip_prefix(&root)
            .or_else(|_| path.strip_prefix(self.path("/")));
        format!("/{}", at.unwrap().display())
    }

    fn start(&self, name: &str, args: &[&str], env: &[(&str, &str)]) -> Output {
        let mut command = Command::new(self.path(name));
        command.args(args).envs(env.iter().copied());
        command.stdin(Stdio::null()).output().unwrap()
    }
}

/// The programs that, by the table of packages, are started for no container that is anybody's.
fn of_users() -> Vec<String> {
    let text = fs::read_to_string(packaging("packages.toml")).unwrap();
    let table: toml::Table = text.parse().unwrap();
    let lists = table.values().filter_map(|package| package.get("users"));
    lists
        .flat_map(|list| list.as_array().unwrap())
        .map(|path| path.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn every_program_started_for_a_container_is_the_static_one() {
    let staged = Staged::new();
    let users = of_users();
    // gpusetup, and what its verification starts, in containers of its own.
    let expected = ["gpusetup", "cri-client", "cuda-init"];
    let names = users.iter().map(|path| path.rsplit('/').next().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), expected);
    let programs = staged.programs();
    for (name, real) in &programs {
        let expected = if users.contains(name) {
            name
        } else {
            "/usr/lib/gpu-container/gpu-container"
        };
        assert_eq!(real, expected, "{name}");
    }
    for name in NAMED_BY_OTHERS {
        assert!(programs.contains_key(name), "{name} in {programs:#?}");
    }
    let ours = gpu_inject::generate::HOOK_PATH;
    assert!(programs.contains_key(ours), "{ours}");
    // The program recognizes all these names.
    for name in programs.keys().filter(|name| !users.contains(name)) {
        let out = staged.start(name, &["--version"], &[]);
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert!(!stderr.contains("no program is called"), "{name}: {stderr}");
    }
}

#[test]
fn nvidia_ctk_hooks_are_run_by_the_static_program_itself() {
    let staged = Staged::new();
    let image = staged.dir.path().join("image");
    for (n, globals) in [
        vec![],
        vec!["--quiet"],
        vec!["--debug", "-d"],
        vec!["--config-file", "/etc/x.toml"],
    ]
    .into_iter()
    .enumerate()
    {
        fs::create_dir_all(&image).unwrap();
        fs::write(
            staged.dir.path().join("config.json"),
            r#"{"root": {"path": "image"}}"#,
        )
        .unwrap();
        let state = format!(
            r#"{{"bundle": "{}", "pid": 0}}"#,
            staged.dir.path().display()
        );
        let link = format!("libcuda.so.1::/libcuda.so.{n}");
        let args = [&globals[..], &["hook", "create-symlinks", "--link", &link]].concat();
        let mut started = Command::new(staged.path("/usr/bin/nvidia-ctk"))
            .args(&args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = started.stdin.take().unwrap();
        input.write_all(state.as_bytes()).unwrap();
        drop(input);
        let out = started.wait_with_output().unwrap();
        assert!(
            out.status.success() && out.stdout.is_empty(),
            "{args:?}: {out:?}"
        );
        let made = fs::read_link(image.join(format!("libcuda.so.{n}"))).unwrap();
        assert_eq!(made, Path::new("libcuda.so.1"), "{args:?}");
    }
}

#[test]
fn other_nvidia_ctk_commands_run_gpusetup_without_loader_variables() {
    let staged = Staged::new();
    let env = [
        ("LD_PRELOAD", ""),
        ("LD_LIBRARY_PATH", "/image/lib"),
        ("LD_AUDIT", ""),
        ("GCONV_PATH", "/image"),
        ("GLIBC_TUNABLES", "glibc.malloc.check=0"),
        ("NVIDIA_VISIBLE_DEVICES", "all"),
    ];
    for name in [
        "/usr/bin/nvidia-ctk",
        "/usr/lib/gpu-container/bin/nvidia-ctk",
    ] {
        for args in [
            vec!["cdi", "generate", "--output=/x y"],
            vec!["--debug", "config", "--set", "hook"],
            vec!["--version"],
            vec![],
        ] {
            let out = staged.start(name, &args, &env);
            let stdout = String::from_utf8(out.stdout).unwrap();
            let expected = format!("gpusetup: {}\n", args.join(" "));
            assert!(stdout.starts_with(&expected), "{stdout}");
            assert!(stdout.contains("NVIDIA_VISIBLE_DEVICES=all\n"), "{stdout}");
            for (variable, _) in &env[..5] {
                assert!(!stdout.contains(&format!("{variable}=")), "{stdout}");
            }
        }
    }
    // gpusetup recognizes by its name what it should do.
    fs::remove_file(staged.path("/usr/bin/gpusetup")).unwrap();
    std::os::unix::fs::symlink("/bin/busybox", staged.path("/usr/bin/gpusetup")).unwrap();
    let out = staged.start("/usr/bin/nvidia-ctk", &["cdi", "list"], &[]);
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(stderr.contains("nvidia-ctk: applet not found"), "{stderr}");
}

#[test]
fn without_gpusetup_nvidia_ctk_says_what_is_missing() {
    let staged = Staged::new();
    fs::remove_file(staged.path("/usr/bin/gpusetup")).unwrap();
    let out = staged.start("/usr/bin/nvidia-ctk", &["cdi", "list"], &[]);
    assert_eq!(out.status.code(), Some(127));
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert!(
        stderr.contains("usr/bin/gpusetup is not there") && stderr.contains("package gpusetup"),
        "{stderr}"
    );
}
