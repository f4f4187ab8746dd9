//! Tests what a terminal shows, on a host that looks live to gpusetup: a directory tree to which it
//! is confined by chroot, with stand-ins for engines and systemctl. Needs root, busybox and chroot.
//!
//! `GPUSETUP_SCREENS=write cargo test -p gpusetup --test screens` writes the golden screens again.
#![allow(clippy::unwrap_used)]

mod doctor_host;
mod running;
mod terminal;

use std::fs;
use std::path::Path;

use doctor_host::DAEMON_JSON;
use running::{GPUSETUP, Running};
use terminal::picture::{self, Command};
use terminal::{CTRL_C, Kind, Terminal, WIDE};

impl Running {
    /// Starts gpusetup on a terminal of that kind.
    fn on(&self, kind: Kind, args: &[&str]) -> Terminal {
        let argv = self.chroot(&[&[GPUSETUP], args].concat());
        Terminal::start(kind, &argv.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// A host that has been set up.
    fn set_up() -> Option<Self> {
        let running = Self::new()?;
        let install = ["install", "--yes", "--no-verify"];
        assert_eq!(running.on(WIDE, &install).end(), Some(0));
        Some(running)
    }
}

/// Kinds of terminals: wide and narrow, with and without colour and UTF-8, and a dumb one.
const KINDS: [(&str, Kind); 7] = [
    ("80", WIDE),
    (
        "60",
        Kind {
            columns: 60,
            ..WIDE
        },
    ),
    (
        "80-no-color",
        Kind {
            no_color: true,
            ..WIDE
        },
    ),
    (
        "60-no-color",
        Kind {
            columns: 60,
            no_color: true,
            ..WIDE
        },
    ),
    (
        "80-ascii",
        Kind {
            locale: "C",
            ..WIDE
        },
    ),
    (
        "60-ascii",
        Kind {
            columns: 60,
            locale: "C",
            ..WIDE
        },
    ),
    ("80-dumb", DUMB),
];

const DUMB: Kind = Kind {
    term: "dumb",
    locale: "C",
    ..WIDE
};

/// Compares the screen with the golden one, or writes it. Times are left out: they vary.
fn golden(what: &str, kind: &str, terminal: &Terminal, code: i32) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/screens")
        .join(format!("{what}-{kind}.txt"));
    let screen = terminal.coloured();
    // A row that the terminal itself had to wrap would be a longer line here.
    for line in terminal.text().lines() {
        let width = line.chars().count();
        assert!(width <= usize::from(terminal.columns()), "{kind}: {line}");
    }
    let text = format!("{}[exit {code}]\n", masked(&screen));
    if std::env::var_os("GPUSETUP_SCREENS").is_some() {
        fs::write(path, text).unwrap();
        return;
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        is_same(&wanted, &text, &screen),
        "{}\nis now\n{text}",
        path.display()
    );
}

/// Whether a screen is the golden one. Where it shows times, words that follow one may stand in
/// other rows, so rows do not count.
fn is_same(wanted: &str, masked_screen: &str, screen: &str) -> bool {
    let has_times = masked(screen) != screen;
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    wanted == masked_screen || has_times && words(wanted) == words(masked_screen)
}

/// The text without times. On a busy machine even a quick step is shown with its time, which may
/// even wrap to the next row.
fn masked(text: &str) -> String {
    let time = regex_lite::Regex::new(r"\s+in\s+[0-9.]+\s+s\b").unwrap();
    time.replace_all(text, "").into_owned()
}

#[test]
fn times_are_masked_wherever_a_row_ends() {
    for time in [
        "",
        " in 1.2 s",
        "\n    in 1.2 s",
        " in\n    1.2 s",
        " in 61.2\n    s",
    ] {
        let text = format!("  ok after a daemon-reload{time}\nDone{time}.\n");
        assert_eq!(
            masked(&text),
            "  ok after a daemon-reload\nDone.\n",
            "{time:?}"
        );
    }
}

/// Accepts all engines, then answers yes.
fn go_ahead(terminal: &Terminal, kind: Kind) {
    terminal.wait_for(if kind.term == "dumb" {
        "Leave out"
    } else {
        "Set up"
    });
    terminal.send("\r");
    say_yes(terminal, kind);
}

fn say_yes(terminal: &Terminal, kind: Kind) {
    terminal.wait_for("Go ahead?");
    terminal.send(if kind.term == "dumb" { "yes\r" } else { "y" });
}

#[test]
fn an_install() {
    for (name, kind) in KINDS {
        let Some(running) = Running::new() else {
            return;
        };
        // Slow enough that the time is shown, and that the running step is shown.
        running.host.write("state/slow-restart", "1.1");
        let mut terminal = running.on(kind, &["install"]);
        go_ahead(&terminal, kind);
        let code = terminal.end().unwrap();
        assert!(terminal.raw().contains("restarting docker"), "{name}");
        assert!(terminal.text().contains("docker restarted in "), "{name}");
        golden("install", name, &terminal, code);
        assert_eq!(code, 0, "{name}");
    }
}

const REFUSAL: &str = "unable to configure the Docker daemon with file /etc/docker/daemon.json: the following directives are specified both as a flag and in the configuration file: runtimes";

/// The recording in the README: a real session without the times.
#[test]
fn the_recording() {
    let Some(running) = Running::new() else {
        return;
    };
    let without_times = |terminal: &Terminal| {
        let mut rows = terminal.spans();
        for span in rows.iter_mut().flatten() {
            span.text = masked(&span.text);
        }
        rows
    };
    let mut install = running.on(WIDE, &["install", "--engine", "docker"]);
    say_yes(&install, WIDE);
    assert_eq!(install.end(), Some(0));
    let mut after = running.on(WIDE, &[]);
    assert_eq!(after.end(), Some(0));
    let commands = [
        Command {
            typed: "sudo gpusetup install --engine docker",
            rows: without_times(&install),
        },
        Command {
            typed: "gpusetup",
            rows: after.spans(),
        },
    ];
    let title = "gpusetup in a terminal: what is here, the plan as a diff, a question, what was done, and what is here then";
    let drawn = picture::svg(title, &commands, WIDE.columns);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/session.svg");
    if std::env::var_os("GPUSETUP_SCREENS").is_some() {
        fs::write(&path, &drawn).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == drawn,
        "run: GPUSETUP_SCREENS=write cargo test -p gpusetup --test screens"
    );
}

#[test]
fn a_failure_and_the_way_back() {
    for (name, kind) in KINDS {
        let Some(running) = Running::new() else {
            return;
        };
        let before = running.host.read(DAEMON_JSON);
        running.host.write("state/refuses", REFUSAL);
        let mut terminal = running.on(kind, &["install", "--all-or-nothing"]);
        go_ahead(&terminal, kind);
        let code = terminal.end().unwrap();
        golden("failure", name, &terminal, code);
        assert_eq!(code, 1, "{name}");
        assert_eq!(running.host.read(DAEMON_JSON), before);
    }
}

#[test]
fn a_failure_of_one_engine() {
    for (name, kind) in KINDS {
        let Some(running) = Running::new() else {
            return;
        };
        let before = running.host.read(DAEMON_JSON);
        running.host.write("state/refuses", REFUSAL);
        // As on a busy machine: the last line then has a time in its midst.
        if kind.locale == "C" {
            running.host.write("state/slow-restart", "0.6");
        }
        let mut terminal = running.on(kind, &["install"]);
        go_ahead(&terminal, kind);
        let code = terminal.end().unwrap();
        golden("partly", name, &terminal, code);
        assert_eq!(code, 7, "{name}");
        assert_eq!(running.host.read(DAEMON_JSON), before);
    }
}

#[test]
fn an_undo() {
    for (name, kind) in KINDS {
        let Some(running) = Running::set_up() else {
            return;
        };
        let mut terminal = running.on(kind, &["undo"]);
        say_yes(&terminal, kind);
        let code = terminal.end().unwrap();
        golden("undo", name, &terminal, code);
        assert_eq!(code, 0, "{name}");
    }
}

#[test]
fn doctor_and_status() {
    let Some(running) = Running::new() else {
        return;
    };
    for (name, kind) in KINDS {
        let mut terminal = running.on(kind, &[]);
        let code = terminal.end().unwrap();
        golden("status-before", name, &terminal, code);
    }
    assert_eq!(running.on(WIDE, &["install", "--yes"]).end(), Some(0));
    for (name, kind) in KINDS {
        let mut terminal = running.on(kind, &[]);
        let code = terminal.end().unwrap();
        golden("status-after", name, &terminal, code);
    }
    // The driver was replaced, and systemd's links are gone.
    running
        .host
        .edit(doctor_host::SPEC, doctor_host::VERSION, doctor_host::OTHER);
    running.host.remove("dev/char");
    for (name, kind) in KINDS {
        for (what, args) in [("status-outdated", &[][..]), ("doctor", &["doctor"])] {
            let mut terminal = running.on(kind, args);
            let code = terminal.end().unwrap();
            golden(what, name, &terminal, code);
        }
    }
}

/// What is due, what fails, and a run that did not end.
#[test]
fn what_is_due() {
    let Some(running) = Running::new() else {
        return;
    };
    let left = ["install", "--yes", "--no-restart"];
    assert_eq!(running.on(WIDE, &left).end(), Some(0));
    for (name, kind) in KINDS {
        for (what, args, wanted) in [
            ("plan-due", &["plan"][..], 2),
            ("plan-due-left", &["plan", "--no-restart"], 2),
            ("status-due", &[], 0),
        ] {
            let mut terminal = running.on(kind, args);
            let code = terminal.end().unwrap();
            golden(what, name, &terminal, code);
            assert_eq!(code, wanted, "{name}");
        }
    }
    running.host.write("state/dies-at", "containerd.service");
    assert_eq!(running.on(WIDE, &["install", "--yes"]).end(), None);
    running.stop_docker();
    running.host.write("state/crashes", "");
    for (name, kind) in KINDS {
        for (what, args, wanted) in [
            ("plan-trouble", &["plan"][..], 2),
            ("status-trouble", &[], 0),
        ] {
            let mut terminal = running.on(kind, args);
            let code = terminal.end().unwrap();
            golden(what, name, &terminal, code);
            assert_eq!(code, wanted, "{name}");
        }
    }
}

/// Gives an answer other than yes to each question of each command, and expects that nothing
/// changes.
fn at_each_question(answer: impl Fn(&Terminal, Kind), question: &str, wanted: i32) {
    for kind in [WIDE, DUMB] {
        let Some(running) = Running::new() else {
            return;
        };
        let pick = if kind.term == "dumb" {
            "Leave out"
        } else {
            "Set up"
        };
        let before = running.host.read(DAEMON_JSON);
        for questions in [&[pick][..], &[pick, "Go ahead?"]] {
            let mut terminal = running.on(kind, &["install"]);
            for question in &questions[..questions.len() - 1] {
                terminal.wait_for(question);
                terminal.send("\r");
            }
            terminal.wait_for(questions[questions.len() - 1]);
            answer(&terminal, kind);
            assert_eq!(terminal.end(), Some(wanted), "{}", terminal.text());
            terminal.must_say(question);
            assert_eq!(running.host.read(DAEMON_JSON), before);
        }
        assert_eq!(running.on(WIDE, &["install", "--yes"]).end(), Some(0));
        let installed = running.host.read(DAEMON_JSON);
        running.host.remove("dev/char");
        for command in [&["undo"][..], &["doctor", "--fix"]] {
            let mut terminal = running.on(kind, command);
            terminal.wait_for("Go ahead?");
            answer(&terminal, kind);
            let code = terminal.end();
            // doctor's exit code depends on what it found.
            let expected = if command[0] == "doctor" && wanted == 0 {
                2
            } else {
                wanted
            };
            assert_eq!(code, Some(expected), "{}", terminal.text());
            terminal.must_say(question);
            assert_eq!(running.host.read(DAEMON_JSON), installed);
        }
    }
}

#[test]
fn answering_no_changes_nothing() {
    let no = |t: &Terminal, kind: Kind| {
        let is_last = t.text().contains("Go ahead?");
        t.send(match (is_last, kind.term) {
            (true, "dumb") => "no\r",
            (true, _) => "n",
            // Deselects every engine.
            (false, "dumb") => "docker containerd\r",
            (false, _) => "a\r",
        });
    };
    at_each_question(no, "Nothing was changed.", 0);
}

#[test]
fn ctrl_c_at_a_question_changes_nothing() {
    let interrupt = |t: &Terminal, _: Kind| t.send(CTRL_C);
    at_each_question(interrupt, "Interrupted: nothing was changed.", 130);
}

#[test]
fn ctrl_c_during_a_run_rolls_back() {
    for kind in [WIDE, DUMB] {
        let Some(running) = Running::new() else {
            return;
        };
        let before = running.host.read(DAEMON_JSON);
        running.host.write("state/slow-restart", "1");
        running.host.write("state/slow", "1");
        for step in ["restarting docker", "running containers in docker"] {
            let mut terminal = running.on(kind, &["install"]);
            go_ahead(&terminal, kind);
            terminal.wait_for_raw(step);
            terminal.send(CTRL_C);
            assert_eq!(terminal.end(), Some(130), "{}", terminal.text());
            for line in [
                "interrupted: putting everything back",
                "put back /etc/docker/daemon.json",
                "restarted docker: running, 3 containers up",
                "Nothing was changed.",
            ] {
                terminal.must_say(line);
            }
            assert_eq!(running.host.read(DAEMON_JSON), before);
            assert!(!running.host.path("var/lib/gpusetup/journal.json").exists());
        }
        assert_eq!(running.on(kind, &["recover"]).end(), Some(0));
    }
}

#[test]
fn an_engine_that_is_not_chosen_is_left_alone() {
    let Some(running) = Running::new() else {
        return;
    };
    let before = running.host.read(DAEMON_JSON);
    let mut terminal = running.on(WIDE, &["install", "--no-verify"]);
    terminal.wait_for("Set up");
    terminal.must_say("is restarted; 3 running containers stop");
    terminal.send(" \r");
    terminal.wait_for("Set up  containerd");
    say_yes(&terminal, WIDE);
    assert_eq!(terminal.end(), Some(0));
    assert_eq!(running.host.read(DAEMON_JSON), before);
    assert!(
        running
            .host
            .read(doctor_host::CONFIG_TOML)
            .contains("gpu-container")
    );
}

#[test]
fn a_screen_reader_gets_no_redrawing() {
    let Some(running) = Running::new() else {
        return;
    };
    running.host.write("state/slow-restart", "1.5");
    let mut terminal = running.on(WIDE, &["install", "--plain"]);
    let typed = Kind {
        term: "dumb",
        ..WIDE
    };
    go_ahead(&terminal, typed);
    assert_eq!(terminal.end(), Some(0));
    let raw = terminal.raw();
    assert!(!raw.contains('\x1b'), "{raw:?}");
    assert!(!raw.replace("\r\n", "").contains('\r'), "{raw:?}");
    terminal.must_say("restarting docker");
}

/// dockerd says no to its own configuration before anybody touched it.
#[test]
fn a_refusal_of_the_configuration_as_found_is_not_laid_on_our_edit() {
    const SAID: &str = "unable to configure the Docker daemon with file daemon.json: no such key";
    let Some(running) = Running::new() else {
        return;
    };
    let before = running.host.read(DAEMON_JSON);
    running.host.write("state/unfit", SAID);
    let mut install = running.on(WIDE, &["install", "--yes", "--engine", "docker"]);
    assert_eq!(install.end(), Some(1), "{}", install.text());
    let text = install.text().replace('\n', " ");
    assert!(text.contains("before gpusetup touched it"), "{text}");
    assert!(text.contains("no such key"), "{text}");
    assert_eq!(running.host.read(DAEMON_JSON), before);
    let receipt = running.host.path("var/lib/gpusetup/receipt.json");
    assert!(!receipt.exists());

    // An undo may be what mends it, so it asks after its own edit, and then says the same.
    fs::remove_file(running.host.path("state/unfit")).unwrap();
    let again = ["install", "--yes", "--no-verify"];
    assert_eq!(running.on(WIDE, &again).end(), Some(0));
    running.host.write("state/unfit", SAID);
    let mut undo = running.on(WIDE, &["undo", "--yes"]);
    assert_eq!(undo.end(), Some(1), "{}", undo.text());
    let text = undo.text().replace('\n', " ");
    assert!(text.contains("before gpusetup touched it"), "{text}");
    assert!(receipt.exists());
}
