//! Flags and commands of gpusetup are named by its command line alone. The libraries, and what of the installer decides
//! and does, state facts; where a message must point to a flag, it has an `Invocation`, which installer/src/cli writes.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use module_graph::{Uses, uses};
use syn::{Attribute, Fields, Item};

/// What is looked at: name, first file, and the modules that may name flags, with what is below them.
const CRATES: [(&str, &str, &[&str]); 7] = [
    (
        "gpusetup",
        "installer/src/lib.rs",
        // The command line itself, the commands that read it, and what draws their screens.
        &["cli", "commands", "render", "doctor::render"],
    ),
    ("gpu-inject", "crates/gpu-inject/src/lib.rs", &[]),
    ("gpu-host", "crates/gpu-host/src/lib.rs", &[]),
    ("cdi", "crates/cdi/src/lib.rs", &[]),
    ("probe-report", "crates/probe-report/src/lib.rs", &[]),
    ("libgpucontainer", "crates/libgpucontainer/src/lib.rs", &[]),
    // A program of its own, with a command line of its own. It tells what gpusetup can do about its errors in one place,
    // and in another where to read more.
    (
        "gpu-container",
        "crates/gpu-container/src/main.rs",
        &["log::advice", "log::journald"],
    ),
];

/// gpusetup starts itself with it, in a process or a unit of its own.
const OWN: &str = "a flag of the gpusetup that it starts";
/// Texts that are meant to be there: module of gpusetup, the text or a part of it, and why.
const EXCEPTIONS: [(&str, &str, &str); 15] = [
    ("setup::driver_answer", "--links", OWN),
    ("setup::driver_answer", "--patient", OWN),
    ("setup::driver_answer", "--quiet", OWN),
    ("setup::driver_answer", "--driver-root", OWN),
    (
        "engines::cri",
        "--image",
        "a flag of cri-client, which we run",
    ),
    (
        "engines::containerd::pods",
        "--force",
        "a flag of containerd's client, which we run",
    ),
    (
        "doctor::checks::cdi",
        "--output",
        "a flag of NVIDIA's nvidia-ctk, which writes its own spec",
    ),
    ("doctor::checks::driver", "--force", "a flag of akmods"),
    ("doctor::checks::docker", "--default-runtime", DOCKERD),
    (
        "engines::docker::daemon_json_changes",
        "--default-runtime",
        DOCKERD,
    ),
    ("engines::docker::reload", "--default-runtime", DOCKERD),
    ("engines::docker::client", "--format", DOCKER),
    ("engines::docker::containers", "--format", DOCKER),
    ("host::systemd_scopes", "--format", DOCKER),
    (
        "transaction::state_file",
        "run `gpusetup undo` there",
        "an older gpusetup shows it, so it is the command of that one",
    ),
];
const DOCKERD: &str = "a flag of dockerd, which we look for on its command line";
const DOCKER: &str = "a flag of docker's and podman's clients, which we run";

/// What must not be named.
struct CommandLine {
    /// `--force`
    flags: BTreeSet<String>,
    /// `gpusetup undo`
    commands: BTreeSet<String>,
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// As clap writes a name of Rust's.
fn kebab(name: &str) -> String {
    let mut kebab = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !kebab.is_empty() {
            kebab.push('-');
        }
        kebab.extend(letter.to_lowercase());
    }
    kebab.replace('_', "-")
}

/// The flag of a field, if it has one: `#[arg(long)]`, `#[arg(long = "engine")]`.
fn flag(name: &str, attributes: &[Attribute]) -> Option<String> {
    let arguments = attributes.iter().filter(|a| a.path().is_ident("arg"));
    let mut flag = None;
    for attribute in arguments {
        let _ = attribute.parse_nested_meta(|meta| {
            let given: Option<syn::Expr> = match meta.value() {
                Ok(value) => Some(value.parse()?),
                Err(_) => None,
            };
            if meta.path.is_ident("long") {
                let text = match given {
                    Some(syn::Expr::Lit(syn::ExprLit {
                        lit: syn::Lit::Str(text),
                        ..
                    })) => text.value(),
                    _ => kebab(name),
                };
                flag = Some(format!("--{text}"));
            }
            Ok(())
        });
    }
    flag
}

impl CommandLine {
    /// Reads what clap makes of this source.
    fn read(text: &str) -> Self {
        let mut line = Self {
            flags: BTreeSet::new(),
            commands: BTreeSet::new(),
        };
        for item in syn::parse_file(text).unwrap().items {
            match item {
                Item::Struct(of) => line.take(&of.fields),
                Item::Enum(of) => {
                    for variant in &of.variants {
                        line.take(&variant.fields);
                        if of.ident == "Command" {
                            let name = kebab(&variant.ident.to_string());
                            line.commands.insert(format!("gpusetup {name}"));
                        }
                    }
                }
                _ => {}
            }
        }
        line
    }

    fn take(&mut self, fields: &Fields) {
        for field in fields {
            let name = field.ident.as_ref().map(ToString::to_string);
            let flag = name.and_then(|name| flag(&name, &field.attrs));
            self.flags.extend(flag);
        }
    }

    /// What of it a text names.
    fn named_in(&self, text: &str) -> Vec<&str> {
        let all = self.flags.iter().chain(&self.commands);
        let is_named = |name: &&String| {
            text.match_indices(name.as_str()).any(|(at, _)| {
                let after = text[at + name.len()..].chars().next();
                let before = text[..at].chars().next_back();
                let goes_on = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '-');
                !goes_on(after) && !goes_on(before)
            })
        };
        all.filter(is_named).map(String::as_str).collect()
    }
}

fn is_of(module: &str, place: &str) -> bool {
    module
        .strip_prefix(place)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[test]
fn the_command_line_alone_names_flags() {
    let source = std::fs::read_to_string(top().join("installer/src/cli/args.rs")).unwrap();
    let line = CommandLine::read(&source);
    let mut wrong = Vec::new();
    let mut unused: BTreeSet<_> = EXCEPTIONS.iter().collect();
    for (name, root, may) in CRATES {
        let modules: BTreeMap<String, Uses> = uses(&top().join(root)).unwrap();
        for place in may {
            assert!(modules.contains_key(*place), "{name}: no module {place}");
        }
        let looked_at = modules
            .iter()
            .filter(|(module, _)| !may.iter().any(|place| is_of(module, place)));
        for (module, uses) in looked_at {
            for text in &uses.texts {
                let mut named = line.named_in(text);
                if name == "gpu-container" {
                    named.retain(|name| line.commands.contains(*name));
                }
                let excuse = EXCEPTIONS.iter().find(|(place, part, _)| {
                    name == "gpusetup" && place == module && text.contains(part)
                });
                match excuse {
                    Some(excuse) if !named.is_empty() => drop(unused.remove(excuse)),
                    None if !named.is_empty() => {
                        wrong.push(format!("{name} {module}: {named:?} in {text:?}"));
                    }
                    _ => {}
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "state the fact, or say it with an Invocation\n{}",
        wrong.join("\n")
    );
    assert!(unused.is_empty(), "not needed any more: {unused:?}");
}

#[test]
fn flags_and_commands_are_read_as_clap_reads_them() {
    let line = CommandLine::read(
        "struct Flags {
            /// Not --this
            #[arg(long, short)] dry_run: bool,
            #[arg(long = \"engine\", value_name = \"NAME\")] engines: Vec<String>,
            #[arg(short)] letter: bool,
            #[command(flatten)] common: Common,
        }
        enum Command { Undo(Flags), ListAll { #[arg(global = true, long)] plain: bool } }
        enum Other { Set }",
    );
    let flags: Vec<&str> = line.flags.iter().map(String::as_str).collect();
    assert_eq!(flags, ["--dry-run", "--engine", "--plain"]);
    let commands: Vec<&str> = line.commands.iter().map(String::as_str).collect();
    assert_eq!(commands, ["gpusetup list-all", "gpusetup undo"]);
    let named = |text| line.named_in(text).len();
    assert_eq!(named("run `gpusetup undo`, or give --dry-run."), 2);
    assert_eq!(
        named("gpusetup undoes; --dry-runs, --engine-x, x--plain"),
        0
    );
    assert_eq!(named("--engine=docker"), 1);
}

#[test]
fn a_text_is_seen_wherever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("lib.rs");
    let source = "
        /// comment
        #[derive(Debug)] #[error(\"in {0} an attribute\", 3)] struct A;
        #[allow(unused, reason = \"reason\")]
        const B: &str = \"in a const\";
        static TABLE: [(&str, u8); 1] = [(\"in a table\", 1)];
        impl A { fn f(&self) { g(&format!(\"in a {} macro\", h(\"within\"))); } }
        #[cfg(test)] mod tests { const T: &str = \"in a test\"; }
    ";
    std::fs::write(&root, source).unwrap();
    let modules = uses(&root).unwrap();
    let texts: Vec<&str> = modules[""].texts.iter().map(String::as_str).collect();
    assert_eq!(
        texts,
        [
            "in a const",
            "in a table",
            "in a {} macro",
            "in {0} an attribute",
            "within"
        ]
    );
}
