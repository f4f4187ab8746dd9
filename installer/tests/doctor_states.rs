//! Tests that doctor says first whether each engine is set up, looks at the host and not at what gpusetup remembers of
//! it, and takes its fixes from what its checks saw. Needs root, for device nodes.
#![allow(clippy::unwrap_used)]

mod doctor_host;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use doctor_host::breaks::BREAKS;
use doctor_host::{Base, DAEMON_JSON, DROP_IN, Host, PCI, POLICY, SPEC, VERSION};
use fake_driver::describe::Description;
use fake_driver::install::{self, Places};
use serde_json::Value;

/// The engines with their states, in the order in which they are shown.
fn states(host: &Host) -> Vec<(String, String)> {
    let (document, _) = host.doctor(&[]);
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let engines = document["engines"].as_array().unwrap().iter();
    engines
        .map(|e| (text(&e["name"]), text(&e["state"])))
        .collect()
}

fn state(host: &Host, name: &str) -> String {
    let states = states(host);
    let mut all = states.iter().filter(|(n, _)| n == name);
    all.next().unwrap_or_else(|| panic!("{states:?}")).1.clone()
}

fn ids(host: &Host) -> Vec<String> {
    host.problems().into_iter().map(|(id, _)| id).collect()
}

fn text(host: &Host) -> (String, i32) {
    let out = host.run(&["doctor"]);
    let text = String::from_utf8(out.stdout).unwrap();
    (text, out.status.code().unwrap())
}

/// The problem with that id.
fn problem(host: &Host, id: &str) -> Value {
    let (document, _) = host.doctor(&[]);
    let mut problems = document["problems"].as_array().unwrap().iter();
    let problem = problems.find(|p| p["id"] == id).cloned();
    problem.unwrap_or_else(|| panic!("no {id} in {}", document["problems"]))
}

/// The likeliest explanation of a message.
fn explained(host: &Host, message: &str) -> Value {
    let mut command = host.command(&["doctor", "--explain", "--json"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(message.as_bytes())
        .unwrap();
    let out = child.wait_with_output().unwrap();
    let document: Value = serde_json::from_slice(&out.stdout).unwrap();
    document["candidates"][0].clone()
}

const NO_GPUS: &str = "docker: Error response from daemon: could not select device driver \"\" with capabilities: [[gpu]]";

#[test]
fn engines_that_were_set_up_are_said_to_be_so_first() {
    for base in Base::SET_UP {
        let Some(host) = Host::new(base) else { return };
        let states = states(&host);
        assert!(!states.is_empty(), "{base:?}");
        for (name, state) in &states {
            assert_eq!(state, "set-up", "{base:?}: {name} of {states:?}");
        }
        let (text, code) = text(&host);
        let first = text.lines().next().unwrap();
        assert!(
            first.contains(&states[0].0) && first.contains("set up: "),
            "{text}"
        );
        assert_eq!(code, 0, "{text}");
    }
}

#[test]
fn a_host_that_nobody_has_set_up_is_told_so_first() {
    let Some(host) = Host::untouched(Base::Debian) else {
        return;
    };
    for name in ["docker", "containerd", "podman"] {
        assert_eq!(state(&host, name), "not-set-up", "{name}");
    }
    let (text, code) = text(&host);
    let first = text.lines().next().unwrap();
    assert!(
        first.contains("docker") && first.ends_with("not set up"),
        "{text}"
    );
    assert_eq!(code, 2, "{text}");
    let found = problem(&host, "not-set-up");
    let evidence = found["evidence"].as_str().unwrap();
    assert!(
        evidence.contains("docker: no nvidia-container-runtime-hook in"),
        "{evidence}"
    );
    // What a setup brings is one problem, and each message of an engine about a part of it is confirmed.
    for part in ["docker-no-hook", "docker-runtime-unknown", "cdi-missing"] {
        assert!(!ids(&host).contains(&part.to_owned()), "{:?}", ids(&host));
    }
    for (message, id, command) in [
        (
            NO_GPUS,
            "docker-no-hook",
            "sudo gpusetup install --engine docker",
        ),
        (
            "unknown or invalid runtime name: nvidia",
            "docker-runtime-unknown",
            "sudo gpusetup install --engine docker",
        ),
        (
            "Error: unresolvable CDI devices nvidia.com/gpu=all",
            "cdi-missing",
            "gpusetup install",
        ),
        (
            "no runtime for \"nvidia\" is configured",
            "cri-runtime-unknown",
            "sudo gpusetup install --engine containerd",
        ),
    ] {
        let explained = explained(&host, message);
        assert_eq!(explained["id"], id);
        assert_eq!(explained["here"], "confirmed", "{explained:#}");
        assert_eq!(explained["command"], command, "{explained:#}");
        // `--fix` mends what a run has set up, and there was none.
        assert_eq!(explained["safe"], false, "{explained:#}");
    }
}

/// A receipt of other engines does not make this one work.
#[test]
fn an_engine_without_a_way_is_a_problem_beside_others_that_are_set_up() {
    let Some(host) = Host::untouched(Base::Debian) else {
        return;
    };
    host.package("docker.io", "26.1.5+dfsg1-9");
    let out = host.run(&["install", "--yes", "--engine", "podman"]);
    assert!(out.status.success(), "{out:?}");
    assert_eq!(state(&host, "podman"), "set-up");
    assert_eq!(state(&host, "docker"), "not-set-up");
    let found = problem(&host, "not-set-up");
    assert_eq!(found["command"], "sudo gpusetup install --engine docker");
    assert!(
        found["evidence"].as_str().unwrap().starts_with("docker: "),
        "{found:#}"
    );
    assert_eq!(explained(&host, NO_GPUS)["here"], "confirmed");
    // The containerd that serves Docker is nobody's loss.
    assert_eq!(state(&host, "containerd"), "not-set-up");
    assert_eq!(host.doctor(&[]).1, 2);
    let out = host.run(&["install", "--yes", "--engine", "docker"]);
    assert!(out.status.success(), "{out:?}");
    assert_eq!(host.doctor(&[]).1, 0, "{:?}", host.problems());
}

/// An engine that a run was told to leave without a way is no problem.
#[test]
fn a_way_that_was_not_asked_for_is_not_missed() {
    let Some(host) = Host::untouched(Base::Debian) else {
        return;
    };
    host.package("docker.io", "20.10.24+dfsg1-1");
    let out = host.run(&["install", "--yes", "--mode", "cdi"]);
    assert!(out.status.success(), "{out:?}");
    assert_eq!(state(&host, "podman"), "set-up");
    // This Docker knows no CDI.
    assert_eq!(state(&host, "docker"), "not-set-up");
    assert_eq!(ids(&host), Vec::<String>::new());
}

#[test]
fn a_part_that_another_tool_left_out_is_said() {
    let Some(host) = Host::new(Base::Toolkit) else {
        return;
    };
    assert_eq!(state(&host, "docker"), "set-up");
    host.remove("usr/bin/nvidia-container-runtime-hook");
    host.package("docker.io", "26.1.5+dfsg1-9");
    assert_eq!(state(&host, "docker"), "partly");
    let found = problem(&host, "docker-no-hook");
    assert_eq!(found["safe"], false, "{found:#}");
    let (text, _) = text(&host);
    assert!(
        text.contains("partly set up: --runtime nvidia; not --gpus (no"),
        "{text}"
    );
}

#[test]
fn a_part_that_is_lost_makes_the_engine_partly_set_up() {
    let Some(host) = Host::new(Base::Debian) else {
        return;
    };
    host.remove(DROP_IN);
    host.package("docker.io", "26.1.5+dfsg1-9");
    host.write(
        DAEMON_JSON,
        "{\"features\": {\"cdi\": true}, \"runtimes\": {\"nvidia\": {\"path\": \"/usr/bin/gpu-container-runtime\"}}}",
    );
    assert_eq!(state(&host, "docker"), "partly");
    assert_eq!(problem(&host, "docker-no-hook")["safe"], true);
}

/// A machine without a GPU refuses every request for one, and no engine says why.
#[test]
fn neither_a_gpu_nor_a_driver_is_a_problem_where_there_is_an_engine() {
    let Some(host) = Host::untouched(Base::Bare) else {
        return;
    };
    assert_eq!(host.doctor(&[]).1, 0);
    let (text, _) = text(&host);
    assert!(
        text.lines().next().unwrap().contains("no container engine"),
        "{text}"
    );
    host.write("usr/sbin/dockerd", "");
    host.package("docker.io", "28.5.2+dfsg1-1");
    assert_eq!(ids(&host), ["no-gpu"]);
    assert_eq!(state(&host, "docker"), "not-set-up");
    assert_eq!(explained(&host, NO_GPUS)["here"], "confirmed");
    host.write(&format!("{PCI}/0000:3b:00.0/vendor"), "0x10de\n");
    host.write(&format!("{PCI}/0000:3b:00.0/class"), "0x030200\n");
    assert_eq!(ids(&host), ["driver-missing"]);
}

#[test]
fn a_setup_without_a_driver_is_said_to_be_without() {
    let Some(host) = Host::new(Base::Debian) else {
        return;
    };
    host.remove("proc/driver/nvidia");
    let (document, code) = host.doctor(&[]);
    assert_eq!(document["driver_loaded"], false);
    assert_eq!(code, 2);
    let (text, _) = text(&host);
    let first = text.lines().next().unwrap();
    assert!(first.contains("set up, but no driver is loaded"), "{text}");
}

#[test]
fn a_configuration_that_cannot_be_parsed_leaves_the_state_open() {
    let Some(host) = Host::new(Base::Debian) else {
        return;
    };
    host.write(DAEMON_JSON, "{,}\n");
    assert_eq!(state(&host, "docker"), "not-known");
    let (text, _) = text(&host);
    assert!(
        text.lines()
            .next()
            .unwrap()
            .contains("not known: /etc/docker/daemon.json"),
        "{text}"
    );
}

/// Installs a driver with its files in a directory of their own.
fn driver_below(host: &Host, root: &str) {
    let places = Places {
        root: host.root().to_owned(),
        driver_root: root.into(),
        artifacts: None,
    };
    install::install(&places, &Description::of(VERSION, 1, 0), false).unwrap();
}

/// Fixes that are done as they say, until there is none: they end, and never contradict one another.
#[test]
fn the_driver_root_that_was_found_is_the_one_to_set() {
    for root in [
        "/home/kubernetes/bin/nvidia",
        "/opt/nvidia",
        "/run/nvidia/driver",
    ] {
        for first in [
            None,
            Some("/run/gone"),
            Some("/run/nvidia/driver"),
            Some("/"),
        ] {
            let Some(host) = Host::untouched(Base::Bare) else {
                return;
            };
            host.write("usr/sbin/dockerd", "");
            driver_below(&host, root);
            if let Some(first) = first {
                let policy = format!("[nvidia-container-cli]\nroot = \"{first}\"\n");
                host.write(POLICY, &policy);
            }
            let about_root = |id: &String| id == "driver-root-elsewhere" || id == "policy-root";
            let mut done = 0;
            while let Some(id) = ids(&host).into_iter().find(about_root) {
                let found = problem(&host, &id);
                let command = found["command"].as_str();
                let command =
                    command.unwrap_or_else(|| panic!("{root} after {first:?}: {found:#}"));
                assert!(
                    command.ends_with(&format!("root={root}")),
                    "{id}: {command}"
                );
                let words: Vec<&str> = command.split(' ').skip(1).collect();
                assert!(host.run(&words).status.success(), "{command}");
                done += 1;
                assert!(done < 3, "{root} after {first:?}: in a circle at {id}");
            }
            if first != Some(root) {
                assert_eq!(done, 1, "{root} after {first:?}");
            }
            assert!(host.read(POLICY).contains(root), "{}", host.read(POLICY));
        }
    }
}

#[test]
fn a_file_is_opened_where_it_is() {
    let Some(host) = Host::new(Base::Debian) else {
        return;
    };
    let spec = host.read(SPEC);
    fs::create_dir_all(host.path("etc/cdi")).unwrap();
    host.write(
        "etc/cdi/gds.yaml",
        &spec.replace("nvidia.com/gpu", "nvidia.com/gds"),
    );
    host.mode("etc/cdi/gds.yaml", 0o600);
    let found = problem(&host, "cdi-closed");
    assert_eq!(found["command"], "chmod a+r /etc/cdi/gds.yaml");
    host.mode(SPEC, 0o600);
    let found = problem(&host, "cdi-closed");
    let both = "chmod a+r /etc/cdi/gds.yaml /var/run/cdi/nvidia.yaml";
    assert_eq!(found["command"], both);
}

/// A unit that is masked cannot be enabled, and one that is missing neither.
#[test]
fn the_refresh_is_turned_on_from_where_it_is() {
    let unit = "gpusetup-cdi.service";
    let Some(host) = Host::new(Base::Debian) else {
        return;
    };
    host.link(&format!("etc/systemd/system/{unit}"), "/dev/null");
    let command = problem(&host, "refresh-off")["command"].clone();
    assert_eq!(
        command,
        format!("systemctl unmask {unit} && systemctl enable {unit}")
    );
    host.remove(&format!("etc/systemd/system/{unit}"));
    host.remove(&format!(
        "usr/lib/systemd/system/multi-user.target.wants/{unit}"
    ));
    let command = problem(&host, "refresh-off")["command"].clone();
    assert_eq!(command, format!("systemctl enable {unit}"));
    host.remove(&format!("usr/lib/systemd/system/{unit}"));
    assert_eq!(problem(&host, "refresh-off")["command"], Value::Null);
}

/// Install does not touch a key that a new Docker does not need.
#[test]
fn a_fix_that_would_do_nothing_is_not_given() {
    let Some(host) = Host::new(Base::Debian) else {
        return;
    };
    host.edit(
        DAEMON_JSON,
        "\"log-driver\"",
        "\"features\": {\"cdi\": false},\n  \"log-driver\"",
    );
    let found = problem(&host, "docker-cdi-off");
    assert_eq!(found["command"], Value::Null, "{found:#}");
    assert!(
        found["fix"]
            .as_str()
            .unwrap()
            .contains("/etc/docker/daemon.json"),
        "{found:#}"
    );
    // No low-level runtime is here, so none can be named.
    let host = Host::new(Base::Debian).unwrap();
    host.remove("usr/bin/runc");
    assert_eq!(
        problem(&host, "no-low-level-runtime")["command"],
        Value::Null
    );
    host.write("usr/bin/youki", "");
    let command = problem(&host, "no-low-level-runtime")["command"].clone();
    assert_eq!(
        command,
        "gpusetup config set nvidia-container-runtime.runtimes=youki"
    );
}

/// What a command names was seen on this host: it is there, or the evidence says so.
#[test]
fn fixes_name_only_what_was_seen_here() {
    let mut wrong = Vec::new();
    for (id, base, broken) in BREAKS {
        let Some(host) = Host::new(*base) else { return };
        broken(&host);
        let (document, _) = host.doctor(&[]);
        for found in document["problems"].as_array().unwrap() {
            let command = found["command"].as_str().unwrap_or_default();
            let evidence = found["evidence"].as_str().unwrap();
            for word in command.split([' ', '=', '@', '\'']) {
                let is_there = host.path(word.trim_start_matches('/')).exists();
                // What a command writes is not there yet.
                let is_written = command.contains(&format!("> {word}")) || word == "/dev/null";
                if Path::new(word).is_absolute()
                    && !is_there
                    && !is_written
                    && !evidence.contains(word)
                {
                    wrong.push(format!("{id}: {} says {command}; {evidence}", found["id"]));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A program of ours that is gone is missed wherever a file of an engine names it.
#[test]
fn checks_do_not_need_a_receipt() {
    let lost = |id: &str| {
        let (_, base, broken) = BREAKS.iter().find(|(name, _, _)| *name == id).unwrap();
        let host = Host::new(*base)?;
        broken(&host);
        if *base == Base::Debian {
            // A later one does `--gpus` by CDI where there is no hook.
            host.package("docker.io", "26.1.5+dfsg1-9");
        }
        host.remove("var/lib/gpusetup");
        Some(ids(&host))
    };
    for id in [
        "docker-no-hook",
        "docker-not-restarted",
        "refresh-off",
        "cdi-two-writers",
        "two-owners",
        "no-low-level-runtime",
        "programs-gone",
    ] {
        let Some(found) = lost(id) else { return };
        assert!(found.contains(&id.to_owned()), "{id}: {found:?}");
    }
}

/// The ids of the checks that passed, and of those that could not look.
fn judged(host: &Host) -> [Vec<String>; 2] {
    let (document, _) = host.doctor(&[]);
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let passed = document["passed"].as_array().unwrap().iter();
    let not_looked = document["not_looked"].as_array().unwrap().iter();
    [
        passed.map(text).collect(),
        not_looked.map(|c| text(&c["id"])).collect(),
    ]
}

/// What a check needs may be there and yet not be told; that is not a healthy host.
#[test]
fn a_check_that_could_not_look_is_not_among_those_that_passed() {
    let could_not_look = |id: &str, change: &dyn Fn(&Host)| {
        let Some(host) = Host::new(Base::Debian) else {
            return;
        };
        let id = id.to_owned();
        let [passed, not_looked] = judged(&host);
        assert!(passed.contains(&id) && !not_looked.contains(&id), "{id}");
        change(&host);
        let [passed, not_looked] = judged(&host);
        assert!(!passed.contains(&id) && not_looked.contains(&id), "{id}");
        let (text, _) = text(&host);
        assert!(text.contains("not everything could be looked at"), "{text}");
    };
    // The version of Docker decides, and no package tells it.
    could_not_look("docker-too-old", &|host| {
        host.edit(
            doctor_host::STATUS,
            "Package: docker.io",
            "Package: another",
        );
    });
    // The packages of this host are in a database that only rpm reads.
    could_not_look("toolkit-vulnerable", &|host| {
        host.remove(doctor_host::STATUS);
        host.write("usr/lib/sysimage/rpm/rpmdb.sqlite", "");
    });
    // Whether the module was built is in a list that is not here.
    could_not_look("driver-not-built", &|host| {
        host.remove("proc/driver/nvidia");
        host.remove("lib/modules/6.12.9-amd64/modules.dep");
    });
}

/// A strict policy is no problem, but who may ask in which way is said with each engine.
#[test]
fn whom_the_policy_lets_ask_is_said_with_the_ways() {
    let Some(host) = Host::new(Base::Debian) else {
        return;
    };
    let strict = "accept-nvidia-visible-devices-envvar-when-unprivileged = false\n";
    host.write(POLICY, strict);
    let (said, code) = text(&host);
    assert_eq!(code, 0, "{said}");
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    for way in ["--gpus", "--runtime nvidia"] {
        let words = format!("{way} (privileged containers alone)");
        assert!(said.contains(&words), "{said}");
    }
    let mounts = "accept-nvidia-visible-devices-as-volume-mounts = true\n";
    host.write(POLICY, &format!("{strict}{mounts}"));
    let (document, _) = host.doctor(&[]);
    let ways = document["engines"][0]["ways"].as_array().unwrap();
    let only = |how: &str| {
        let way = ways
            .iter()
            .find(|w| w["how"].as_str().unwrap().starts_with(how));
        way.unwrap()["only"].clone()
    };
    assert_eq!(only("--gpus"), "privileged containers alone");
    assert_eq!(
        only("--runtime"),
        "privileged, or asked for by volume mounts"
    );
    assert_eq!(only("--device"), Value::Null);
}

#[test]
fn a_container_that_the_policy_denies_is_explained() {
    let Some(host) = Host::new(Base::Debian) else {
        return;
    };
    let message = "gpu-container-runtime: an unprivileged container asks for GPUs by NVIDIA_VISIBLE_DEVICES, which \
                   /etc/nvidia-container-runtime/config.toml does not let it \
                   (accept-nvidia-visible-devices-envvar-when-unprivileged): it starts without";
    assert_eq!(explained(&host, message)["id"], "policy-unprivileged");
}

/// A container's start refuses a policy that is longer than this, so doctor does not take it for sound.
#[test]
fn a_policy_longer_than_a_start_reads_is_a_problem() {
    let Some(host) = Host::new(Base::Debian) else {
        return;
    };
    for (length, is_problem) in [(1 << 20, false), ((1 << 20) + 1, true)] {
        host.write(POLICY, &format!("#{}", "x".repeat(length - 1)));
        let (document, _) = host.doctor(&[]);
        let found = document["problems"].to_string().contains("policy-invalid");
        assert_eq!(found, is_problem, "{length}");
    }
}
