//! Tests Docker on directory trees: existing runtimes, flags that clash with daemon.json, and what
//! is reported about each.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::fs;
use std::process::Output;

use serde_json::Value;

use fixture::{DAEMON_JSON, Tree};

const JSON: &str = "etc/docker/daemon.json";
const UNIT: &str = "usr/lib/systemd/system/docker.service";
const SITE: &str = "etc/systemd/system/docker.service.d/site.conf";
const CE: &str = "[Service]\nType=notify\nExecStart=/usr/bin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock\nExecReload=/bin/kill -s HUP $MAINPID\n";
const DEBIAN: &str = "[Service]\nEnvironmentFile=-/etc/default/docker\nExecStart=/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock $DOCKER_OPTS\n";
const FEDORA: &str = "[Service]\nEnvironmentFile=-/etc/sysconfig/docker\nExecStart=/usr/bin/dockerd \\\n          --host=fd:// \\\n          --exec-opt native.cgroupdriver=systemd \\\n          $OPTIONS\n";

/// A host with Docker only.
fn docker(json: &str) -> Tree {
    let tree = Tree::new("26.1.5", "1.7.24");
    fs::remove_file(tree.path("usr/bin/containerd")).unwrap();
    tree.write(JSON, json);
    tree
}

fn message(out: &Output) -> String {
    String::from_utf8(out.stderr.clone()).unwrap()
}

fn json(tree: &Tree) -> Value {
    serde_json::from_str(&tree.read(JSON)).unwrap()
}

fn runtime(path: &str) -> String {
    format!(
        "{{\n  \"runtimes\": {{\"nvidia\":   {{\"path\": \"{path}\", \"runtimeArgs\": []}}}},\n  \"debug\": true\n}}\n"
    )
}

#[test]
fn a_runtime_of_another_is_refused_and_both_ways_out_are_named() {
    let shipped = "{\n    \"runtimes\": {\n        \"nvidia\": {\n            \"path\": \"nvidia-container-runtime\",\n            \"runtimeArgs\": []\n        }\n    }\n}\n";
    let vendors = runtime("/usr/bin/nvidia-container-runtime");
    let operators = runtime("/usr/local/nvidia/toolkit/nvidia-container-runtime");
    let by_hand = runtime("/opt/x/runtime");
    for (text, whose) in [
        (shipped, "nvidia-docker2's"),
        (&vendors, "nvidia-container-toolkit's"),
        (
            &operators,
            "the GPU operator's, and its program is not there",
        ),
        (&by_hand, "written by hand"),
    ] {
        let tree = docker(text);
        tree.write("usr/bin/nvidia-container-runtime", "");
        tree.write("opt/x/runtime", "");
        let before = tree.state();
        let out = tree.run(&["install", "--yes"]);
        let message = message(&out);
        assert_eq!(out.status.code(), Some(1), "{message}");
        assert!(message.contains(&format!("({whose})")), "{message}");
        assert!(
            message.contains("--existing adopt") && message.contains("--existing leave"),
            "{message}"
        );
        assert_eq!(
            message.contains("the operator will write it again"),
            whose.contains("operator"),
            "{message}"
        );
        assert_eq!(tree.state(), before);
    }
}

#[test]
fn the_refusal_in_full() {
    let tree = docker(&runtime("/usr/bin/nvidia-container-runtime"));
    tree.write("usr/bin/nvidia-container-runtime", "");
    let out = tree.run(&["install", "--yes"]);
    assert_eq!(
        message(&out),
        "gpusetup: /etc/docker/daemon.json: has a runtime \"nvidia\" that is not ours: \
         {\"path\":\"/usr/bin/nvidia-container-runtime\",\"runtimeArgs\":[]} (nvidia-container-toolkit's)\n  \
         fix: `gpusetup install --existing adopt` puts ours in its place, and undo gives it back; \
         `--existing leave` keeps it and sets up the rest\n"
    );
}

#[test]
fn an_adopted_runtime_is_restored_byte_for_byte() {
    for path in [
        "/usr/bin/nvidia-container-runtime",
        "/opt/by-hand",
        "/usr/local/nvidia/toolkit/nvidia-container-runtime",
    ] {
        let text = runtime(path);
        let tree = docker(&text);
        tree.write(&path[1..], "");
        let out = tree.run(&["install", "--yes", "--existing", "adopt"]);
        assert_eq!(out.status.code(), Some(0), "{}", message(&out));
        assert_eq!(
            message(&out).contains("the GPU operator's, which will write it again"),
            path.starts_with("/usr/local"),
            "{}",
            message(&out)
        );
        // Only the path changes.
        let wanted = text.replace(path, "/usr/bin/gpu-container-runtime");
        assert!(
            tree.read(JSON).starts_with(&wanted[..wanted.len() - 3]),
            "{}",
            tree.read(JSON)
        );
        assert_eq!(tree.code(&["install", "--yes"]), 0);
        // It is also given back if the file was changed since.
        let installed = tree.read(JSON);
        tree.write(
            JSON,
            &installed.replace("\"debug\": true", "\"debug\": false"),
        );
        assert_eq!(tree.code(&["undo", "--yes"]), 0);
        assert_eq!(
            tree.read(JSON),
            text.replace("\"debug\": true", "\"debug\": false")
        );
        let whole = docker(&text);
        whole.write(&path[1..], "");
        let before = whole.state();
        assert_eq!(whole.code(&["install", "--yes", "--existing", "adopt"]), 0);
        assert_eq!(whole.code(&["undo", "--yes"]), 0);
        assert_eq!(whole.state(), before);
    }
}

#[test]
fn a_runtime_whose_options_our_program_lacks_is_not_adopted() {
    for entry in [
        "{\"path\": \"/x\", \"runtimeArgs\": [\"--debug\"]}",
        "{\"runtimeType\": \"io.containerd.runsc.v1\"}",
        "{\"path\": \"/x\", \"options\": {\"a\": 1}}",
        "\"/x\"",
    ] {
        let tree = docker(&format!("{{\"runtimes\": {{\"nvidia\": {entry}}}}}\n"));
        tree.write("x", "");
        let before = tree.state();
        let out = tree.run(&["install", "--yes", "--existing", "adopt"]);
        assert_eq!(out.status.code(), Some(1), "{entry}");
        assert!(
            message(&out).contains("take that out by hand"),
            "{}",
            message(&out)
        );
        assert_eq!(tree.state(), before);
        assert_eq!(tree.code(&["install", "--yes", "--existing", "leave"]), 0);
    }
}

#[test]
fn a_runtime_to_leave_is_kept_and_the_rest_is_set_up() {
    let text = runtime("/opt/by-hand");
    let tree = docker(&text);
    tree.write("opt/by-hand", "");
    let before = tree.state();
    let out = tree.run(&[
        "install",
        "--yes",
        "--existing",
        "leave",
        "--default-runtime",
    ]);
    assert_eq!(out.status.code(), Some(0));
    let message = message(&out);
    assert!(
        message.contains(
            "runtime \"nvidia\" in /etc/docker/daemon.json stays as it is (written by hand): containers with \
             --runtime nvidia do not use gpusetup's; it is not made the default either"
        ),
        "{message}"
    );
    let now = json(&tree);
    assert_eq!(now["runtimes"]["nvidia"]["path"], "/opt/by-hand");
    assert_eq!(now["features"]["cdi"], true);
    assert_eq!(now.get("default-runtime"), None);
    assert!(
        tree.read("etc/systemd/system/docker.service.d/50-gpusetup.conf")
            .contains("PATH=")
    );
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
    assert_eq!(tree.state(), before);
}

/// A runtime left by a removed package belongs to nobody; the engine must not keep pointing to it.
#[test]
fn a_runtime_of_a_removed_package_is_reported_and_replaced() {
    for path in [
        "/usr/bin/nvidia-container-runtime",
        "nvidia-container-runtime",
    ] {
        let text = runtime(path);
        let tree = docker(&text);
        let out = tree.run(&["detect", "--json"]);
        let document: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(
            document["engines"][0]["notes"][0],
            format!(
                "runtime \"nvidia\" in /etc/docker/daemon.json leads to {path}, which is not there: \
                 containers with --runtime nvidia do not start"
            )
        );
        let before = tree.state();
        assert_eq!(tree.code(&["install", "--yes"]), 0);
        let now = json(&tree);
        assert_eq!(
            now["runtimes"]["nvidia"]["path"],
            "/usr/bin/gpu-container-runtime"
        );
        assert_eq!(tree.code(&["undo", "--yes"]), 0);
        assert_eq!(tree.state(), before);
    }
    // A custom path may be on a disk that is mounted later.
    let tree = docker(&runtime("/mnt/later/runtime"));
    let out = tree.run(&["install", "--yes"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(
        message(&out).contains("(written by hand, and its program is not there)"),
        "{}",
        message(&out)
    );
}

#[test]
fn a_missing_default_runtime_is_reported_as_worse() {
    let text = runtime("/usr/bin/gpu-container-runtime")
        .replace("\"debug\": true", "\"default-runtime\": \"nvidia\"");
    let tree = docker(&text);
    let out = tree.run(&["detect", "--json"]);
    let document: Value = serde_json::from_slice(&out.stdout).unwrap();
    let note = document["engines"][0]["notes"][0].as_str().unwrap();
    assert!(
        note.ends_with("is not there: no container starts without --runtime"),
        "{note}"
    );
}

#[test]
fn flags_of_dockerd_conflict_with_daemon_json() {
    let hand = "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd \\\n  -H fd:// \\\n  --default-runtime=runc\n";
    for (files, place) in [
        (
            &[(UNIT, CE), (SITE, hand)][..],
            "/etc/systemd/system/docker.service.d/site.conf",
        ),
        (
            &[
                (UNIT, DEBIAN),
                (
                    "etc/default/docker",
                    "DOCKER_OPTS=\"--dns 8.8.8.8 --default-runtime runc\"\n",
                ),
            ],
            "/etc/default/docker",
        ),
        (
            &[
                (UNIT, FEDORA),
                (
                    "etc/sysconfig/docker",
                    "OPTIONS='--selinux-enabled --default-runtime runc'\n",
                ),
            ],
            "/etc/sysconfig/docker",
        ),
    ] {
        let tree = docker(DAEMON_JSON);
        for (path, text) in files {
            tree.write(path, text);
        }
        let before = tree.state();
        let out = tree.run(&["install", "--yes", "--default-runtime"]);
        assert_eq!(out.status.code(), Some(1));
        assert_eq!(
            message(&out),
            format!(
                "gpusetup: {place}: starts dockerd with --default-runtime, and dockerd refuses \"default-runtime\" \
                 in /etc/docker/daemon.json beside it\n  fix: move --default-runtime into \
                 /etc/docker/daemon.json, then run this again\n"
            )
        );
        assert_eq!(tree.state(), before);
        // The flag conflicts only with that key.
        assert_eq!(tree.code(&["install", "--yes"]), 0);
    }
}

#[test]
fn flags_of_other_programs_do_not_conflict() {
    let flagged = CE.replace("-H fd://", "-H fd:// --default-runtime runc");
    let reset = "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd -H fd://\n";
    for files in [
        &[(UNIT, flagged.as_str()), (SITE, reset)][..],
        // docker-ce's unit does not read this file.
        &[
            (UNIT, CE),
            (
                "etc/default/docker",
                "DOCKER_OPTS=\"--default-runtime runc\"\n",
            ),
        ],
        &[
            (UNIT, DEBIAN),
            (
                "etc/default/docker",
                "#DOCKER_OPTS=\"--default-runtime runc\"\n",
            ),
        ],
        &[
            (UNIT, CE),
            (
                SITE,
                "[Service]\nExecStartPost=/bin/x --default-runtime runc\n",
            ),
        ],
        &[
            (UNIT, CE),
            (
                SITE,
                "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd --add-runtime site=/usr/bin/crun\n",
            ),
        ],
    ] {
        let tree = docker(DAEMON_JSON);
        for (path, text) in files {
            tree.write(path, text);
        }
        let before = tree.state();
        let out = tree.run(&["install", "--yes", "--default-runtime"]);
        assert_eq!(out.status.code(), Some(0), "{files:?}: {}", message(&out));
        assert_eq!(json(&tree)["default-runtime"], "nvidia");
        assert_eq!(tree.code(&["undo", "--yes"]), 0);
        assert_eq!(tree.state(), before);
    }
}

#[test]
fn the_config_file_named_by_the_unit_is_edited() {
    let tree = docker(DAEMON_JSON);
    tree.write(UNIT, CE);
    tree.write(SITE, "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd -H fd:// --config-file \"/srv/my docker/daemon.json\"\n");
    let before = tree.state();
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    assert_eq!(tree.read(JSON), DAEMON_JSON);
    assert!(
        tree.read("srv/my docker/daemon.json")
            .contains("gpu-container-runtime")
    );
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
    assert_eq!(tree.state(), before);
}

/// What a JSON document of `plan` or `install` says of Docker's default runtime.
fn said_default(tree: &Tree, args: &[&str]) -> Value {
    let out = tree.run(&[args, &["--json"]].concat());
    let document: Value = serde_json::from_slice(&out.stdout).unwrap();
    document["default_runtime"]["docker"].clone()
}

#[test]
fn the_default_runtime_stays_until_it_is_taken_back() {
    for text in [
        "{}\n",
        "{\n  \"default-runtime\": \"site\",\n  \"runtimes\": {\"site\": {\"path\": \"/usr/bin/runc\"}}\n}\n",
    ] {
        let tree = docker(text);
        tree.write("usr/bin/runc", "");
        let before = tree.state();
        assert_eq!(said_default(&tree, &["plan"]), Value::Null);
        assert_eq!(said_default(&tree, &["plan", "--default-runtime"]), "set");
        let out = tree.run(&["install", "--yes", "--default-runtime"]);
        assert_eq!(out.status.code(), Some(0), "{}", message(&out));
        assert!(
            message(&out).contains("recorded in them"),
            "{}",
            message(&out)
        );
        assert_eq!(json(&tree)["default-runtime"], "nvidia");
        let set = tree.read("etc/docker/daemon.json");

        // Neither flag: nothing changes, and that is said; in the text, in JSON and by the receipt.
        let out = tree.run(&["plan"]);
        assert_eq!(out.status.code(), Some(0), "{}", message(&out));
        let stays = "docker: runtime \"nvidia\" stays the default";
        assert!(message(&out).contains(stays), "{}", message(&out));
        assert!(
            message(&out).contains("--no-default-runtime"),
            "{}",
            message(&out)
        );
        assert_eq!(said_default(&tree, &["plan"]), "kept");
        for _ in 0..2 {
            let out = tree.run(&["install", "--yes"]);
            assert!(message(&out).contains(stays), "{}", message(&out));
            assert_eq!(tree.read("etc/docker/daemon.json"), set);
        }
        assert_eq!(said_default(&tree, &["install", "--yes"]), "kept");

        // It is taken back, and everything else stays.
        assert_eq!(tree.code(&["plan", "--no-default-runtime"]), 2);
        assert_eq!(
            said_default(&tree, &["plan", "--no-default-runtime"]),
            "taken-back"
        );
        let out = tree.run(&["install", "--yes", "--no-default-runtime"]);
        assert_eq!(out.status.code(), Some(0), "{}", message(&out));
        let old: Value = serde_json::from_str(text).unwrap();
        let now = json(&tree);
        assert_eq!(now.get("default-runtime"), old.get("default-runtime"));
        assert!(now["runtimes"]["nvidia"].is_object());
        for args in [&["plan"][..], &["plan", "--no-default-runtime"]] {
            assert_eq!(said_default(&tree, args), Value::Null, "{args:?}");
            assert_eq!(tree.code(args), 0, "{args:?}");
        }

        // It is the user's key from then on.
        let mine = tree.read("etc/docker/daemon.json");
        let other = match old.get("default-runtime") {
            Some(_) => mine.replace("\"site\",", "\"crun\","),
            None => mine.replacen('{', "{\"default-runtime\": \"crun\",", 1),
        };
        tree.write("etc/docker/daemon.json", &other);
        let out = tree.run(&["undo", "--yes"]);
        assert_eq!(out.status.code(), Some(0), "{}", message(&out));
        assert_eq!(json(&tree)["default-runtime"], "crun");
        tree.write("etc/docker/daemon.json", text);
        assert_eq!(tree.state(), before);
    }
}

#[test]
fn an_older_receipt_that_forgot_the_default_still_has_it() {
    let tree = docker("{}\n");
    assert_eq!(tree.code(&["install", "--yes", "--default-runtime"]), 0);
    let receipt = tree.read("var/lib/gpusetup/receipt.json");
    let mut forgot = fixture::without_checksums(&receipt);
    assert_eq!(forgot["asked"]["docker"]["default_runtime"], true);
    forgot["asked"]["docker"]["default_runtime"] = false.into();
    tree.write("var/lib/gpusetup/receipt.json", &forgot.to_string());
    assert_eq!(said_default(&tree, &["plan"]), "kept");
    assert_eq!(tree.code(&["install", "--yes", "--no-default-runtime"]), 0);
    assert_eq!(json(&tree).get("default-runtime"), None);
}

#[test]
fn a_default_that_is_another_by_now_is_left() {
    let tree = docker("{}\n");
    assert_eq!(tree.code(&["install", "--yes", "--default-runtime"]), 0);
    let text = tree.read("etc/docker/daemon.json");
    let other = text.replace(
        "\"default-runtime\": \"nvidia\"",
        "\"default-runtime\": \"runc\"",
    );
    assert_ne!(other, text);
    tree.write("etc/docker/daemon.json", &other);
    assert_eq!(tree.code(&["install", "--yes", "--no-default-runtime"]), 0);
    assert_eq!(json(&tree)["default-runtime"], "runc");
}
