//! Tests `doctor --explain`: messages that upstream's users pasted are explained correctly, and no
//! part of a pasted text is shown again.
#![allow(clippy::unwrap_used)]

mod doctor_host;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use doctor_host::{Base, DAEMON_JSON, Host};
use serde_json::Value;

const SECRET: &str = "hunter2-s3cr3t";

#[derive(serde::Deserialize)]
struct Messages {
    message: Vec<Message>,
}

#[derive(serde::Deserialize)]
struct Message {
    is: String,
    source: String,
    text: String,
}

fn messages() -> Vec<Message> {
    let text = include_str!("errors/messages.toml");
    toml::from_str::<Messages>(text).unwrap().message
}

fn pasted(mut command: Command, text: &[u8]) -> Output {
    let command = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The program closes its input once it has read enough.
    let _ = child.stdin.take().unwrap().write_all(text);
    child.wait_with_output().unwrap()
}

/// Explains a text in an empty tree, where no check confirms anything.
fn explained(text: &[u8], more: &[&str]) -> (String, i32) {
    let tree = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpusetup"));
    command
        .arg("--root")
        .arg(tree.path())
        .args(["doctor", "--explain"])
        .args(more);
    let out = pasted(command, text);
    let aside = String::from_utf8_lossy(&out.stderr);
    assert!(aside.is_empty() || more == ["-v"], "{aside}");
    assert!(!aside.contains(SECRET), "{aside}");
    (
        String::from_utf8(out.stdout).unwrap(),
        out.status.code().unwrap(),
    )
}

fn ids(json: &str) -> Vec<String> {
    let document: Value = serde_json::from_str(json).unwrap();
    let all = document["candidates"].as_array().unwrap().iter();
    all.map(|c| c["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn messages_of_upstream_users_are_explained() {
    let messages = messages();
    assert!(messages.len() >= 30);
    let mut wrong = Vec::new();
    for message in &messages {
        assert!(
            message.source.starts_with("https://github.com/"),
            "{}",
            message.source
        );
        let (json, code) = explained(message.text.as_bytes(), &["--json"]);
        let ids = ids(&json);
        if ids.first() != Some(&message.is) || code != 0 {
            wrong.push(format!(
                "{} ({}) is explained as {ids:?}",
                message.is, message.source
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn messages_in_the_middle_of_a_log_are_explained() {
    for message in messages() {
        let noise = "Nov 25 19:12:46 node1 kubelet[123]: I1125 19:12:46.000000 123 kubelet.go:2000] \"SyncLoop (PLEG)\"\n";
        let text = format!(
            "{}\x1b[33m{}\x1b[0m\n{}",
            noise.repeat(200),
            message.text,
            noise.repeat(200)
        );
        let (json, _) = explained(text.as_bytes(), &["--json"]);
        assert_eq!(ids(&json).first(), Some(&message.is), "{}", message.source);
    }
}

#[test]
fn secrets_are_not_repeated() {
    let secret = SECRET;
    let text = format!(
        "http_proxy=http://user:{secret}@proxy:3128 docker login -p {secret}\n\
         Authorization: Bearer {secret}\n\
         docker: Error response from daemon: unknown or invalid runtime name: nvidia.\n{secret}\n"
    );
    for more in [&[][..], &["--json"], &["-v"]] {
        let (output, code) = explained(text.as_bytes(), more);
        assert!(output.contains("docker-runtime-unknown"), "{output}");
        assert!(
            !output.contains(secret) && !output.contains("proxy:3128"),
            "{output}"
        );
        assert_eq!(code, 0);
    }
    let (output, code) = explained(secret.as_bytes(), &[]);
    assert!(
        !output.contains(secret) && output.contains("journalctl"),
        "{output}"
    );
    assert_eq!(code, 1);
}

#[test]
fn empty_input_and_binary_input_are_handled() {
    for text in [&b""[..], b"\xff\xfe\x00\x1b[", &[0; 4096]] {
        assert_eq!(explained(text, &[]).1, 1);
    }
}

/// On a host that has the problem, the check confirms it, and it comes first.
#[test]
fn the_explanation_checks_this_host() {
    let Some(host) = Host::new(Base::Debian) else {
        return;
    };
    let text = b"docker: Error response from daemon: unknown or invalid runtime name: nvidia.";
    let out = pasted(host.command(&["doctor", "--explain"]), text);
    let stdout = String::from_utf8(out.stdout).unwrap();
    assert!(
        stdout.contains("the check for it finds nothing on this host now"),
        "{stdout}"
    );
    host.write(DAEMON_JSON, "{}\n");
    let out = pasted(host.command(&["doctor", "--explain"]), text);
    let stdout = String::from_utf8(out.stdout).unwrap();
    assert!(
        stdout.contains("yes: /etc/docker/daemon.json has no runtime"),
        "{stdout}"
    );
    // Both problems match the message; the host runs in LXC.
    host.write("run/systemd/container", "lxc\n");
    let text = b"nvidia-container-cli: mount error: failed to add device rules: unable to find any existing device filters attached to the cgroup: bpf_prog_query(BPF_CGROUP_DEVICE) failed: operation not permitted";
    let out = pasted(host.command(&["doctor", "--explain", "--json"]), text);
    assert_eq!(
        ids(&String::from_utf8(out.stdout).unwrap()),
        ["nested", "rootless-cgroups"]
    );
    // If nothing is confirmed, the problems that were found on this host are listed.
    let text = b"unresolvable CDI devices nvidia.com/gpu=all";
    let out = pasted(host.command(&["doctor", "--explain"]), text);
    let stdout = String::from_utf8(out.stdout).unwrap();
    assert!(stdout.contains("Found on this host:"), "{stdout}");
}
