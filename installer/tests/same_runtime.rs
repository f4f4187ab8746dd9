//! Tests on generated nodes that every runtime which worked before works the same after install, adopt, leave and undo, and
//! that ours does the same as the one it came from.
//!
//! What a node does is read here from its files by the rules of the engines, independently of gpusetup's own reader.
//! `GPUSETUP_NODES=2000 cargo test -p gpusetup --test same_runtime` tries that many.
#![allow(clippy::unwrap_used)]

mod fixture;
#[path = "same_runtime/reading.rs"]
mod reading;

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value as Json;

use fixture::Tree;
use reading::{Engine, Runtime};

const OURS: &str = "/usr/bin/gpu-container-runtime";

/// How another toolkit is there.
const SHAPES: [&str; 6] = [
    "none",
    "as a runtime",
    "as the default",
    "in CDI mode beside",
    "the operator's",
    "left behind",
];
const PROGRAMS: [&str; 4] = [
    "usr/bin/runc",
    "usr/bin/crun",
    "usr/libexec/crio/crun",
    "opt/site/runc",
];
const MODES: [&[&str]; 4] = [
    &[],
    &["--existing", "adopt"],
    &["--existing", "leave"],
    &["--existing", "adopt", "--default-runtime"],
];

#[derive(Clone, Debug)]
struct Node {
    engine: Engine,
    /// The programs that are installed.
    programs: Vec<&'static str>,
    /// The name of the default runtime, if any is named.
    default: Option<&'static str>,
    /// How it is named: in a file, by a flag or by a variable.
    by: usize,
    /// Names of runtimes with a table, each with its program and lines of settings.
    tables: Vec<(&'static str, &'static str, usize)>,
    shape: &'static str,
    /// The settings of the toolkit's table.
    theirs: usize,
    mode: usize,
}

/// Settings of a runtime, for CRI-O and for containerd's options.
const SETTINGS: [(&str, &str); 5] = [
    ("", ""),
    ("runtime_root = \"/run/runc\"\n", "SystemdCgroup = true\n"),
    (
        "runtime_root = \"/run/crun\"\nmonitor_path = \"/opt/conmon\"\n",
        "SystemdCgroup = false\n",
    ),
    (
        "runtime_root = \"/run/site\"\nallowed_annotations = [\"io.site\", \"io.other\"]\nmonitor_cgroup = \"pod\"\n",
        "SystemdCgroup = true\nNoPivotRoot = true\n",
    ),
    (
        "monitor_env = [\"PATH=/opt/site:/usr/bin\"]\n",
        "Root = \"/run/site\"\n",
    ),
];

impl Node {
    fn has_theirs(&self) -> bool {
        !matches!(self.shape, "none" | "in CDI mode beside")
    }

    /// The runtimes with a table: name, program, settings.
    fn all(&self) -> Vec<(&str, String, &str)> {
        let settings = |n: usize| match self.engine {
            Engine::Crio(_) => SETTINGS[n].0,
            Engine::Containerd(_) => SETTINGS[n].1,
        };
        let tables = self.tables.iter();
        let mut all: Vec<_> = tables
            .map(|(name, program, n)| (*name, format!("/{program}"), settings(*n)))
            .collect();
        let theirs = match self.shape {
            "none" => return all,
            "in CDI mode beside" => ("nvidia-cdi", "/usr/bin/nvidia-container-runtime.cdi"),
            "the operator's" => (
                "nvidia",
                "/usr/local/nvidia/toolkit/nvidia-container-runtime",
            ),
            _ => ("nvidia", "/usr/bin/nvidia-container-runtime"),
        };
        all.push((theirs.0, theirs.1.to_owned(), settings(self.theirs)));
        all
    }

    fn default(&self) -> Option<&str> {
        match self.shape {
            "as the default" => Some("nvidia"),
            _ => self.default,
        }
    }

    fn tree(&self) -> Tree {
        let tree = Tree::empty();
        tree.write("etc/os-release", "ID=debian\nPRETTY_NAME=\"Debian\"\n");
        for program in &self.programs {
            tree.write(program, "");
        }
        let all = self.all();
        for (_, program, _) in all.iter().filter(|(_, p, _)| p.contains("nvidia")) {
            if self.shape != "left behind" {
                tree.write(program.trim_start_matches('/'), "");
            }
        }
        let package = |name: &str, version: &str| {
            let text =
                format!("Package: {name}\nStatus: install ok installed\nVersion: {version}\n\n");
            tree.write("var/lib/dpkg/status", &text);
        };
        match self.engine {
            Engine::Crio(version) => {
                tree.write("usr/bin/crio", "");
                package("cri-o", version);
                self.write_crio(&tree, &all);
            }
            Engine::Containerd(version) => {
                tree.write("usr/bin/containerd", "");
                package("containerd", version);
                self.write_containerd(&tree, version, &all);
            }
        }
        tree
    }

    fn write_crio(&self, tree: &Tree, all: &[(&str, String, &str)]) {
        let mut main = String::new();
        if let Some(name) = self.default().filter(|_| self.by == 0) {
            main.push_str(&format!("[crio.runtime]\ndefault_runtime = \"{name}\"\n"));
        }
        for (name, program, lines) in all {
            let text =
                format!("[crio.runtime.runtimes.{name}]\nruntime_path = \"{program}\"\n{lines}");
            if program.contains("nvidia") {
                tree.write("etc/crio/crio.conf.d/99-nvidia.toml", &text);
            } else {
                main.push_str(&text);
            }
        }
        tree.write("etc/crio/crio.conf", &main);
        let unit = "[Service]\nEnvironmentFile=-/etc/sysconfig/crio\nExecStart=/usr/bin/crio $CRIO_RUNTIME_OPTIONS\n";
        tree.write("usr/lib/systemd/system/crio.service", unit);
        let given = match (self.by, self.default()) {
            (1, Some(name)) => format!("CRIO_RUNTIME_OPTIONS=--default-runtime={name}\n"),
            (2, Some(name)) => format!("CONTAINER_DEFAULT_RUNTIME={name}\n"),
            _ => String::new(),
        };
        tree.write("etc/sysconfig/crio", &given);
    }

    fn write_containerd(&self, tree: &Tree, version: &str, all: &[(&str, String, &str)]) {
        let (schema, cri) = reading::schema(version);
        let mut text = format!("version = {schema}\n");
        if self.by > 0 {
            text.push_str("imports = [\"/etc/containerd/conf.d/*.toml\"]\n");
        }
        text.push_str(&format!("[plugins.\"{cri}\".containerd]\n"));
        if let Some(name) = self.default() {
            text.push_str(&format!("default_runtime_name = \"{name}\"\n"));
        }
        for (name, program, lines) in all {
            text.push_str(&format!(
                "[plugins.\"{cri}\".containerd.runtimes.{name}]\nruntime_type = \"io.containerd.runc.v2\"\n[plugins.\"{cri}\".containerd.runtimes.{name}.options]\nBinaryName = \"{program}\"\n{lines}"
            ));
        }
        tree.write("etc/containerd/config.toml", &text);
    }
}

fn nodes() -> impl Strategy<Value = Node> {
    let engine = select(vec![
        Engine::Crio("1.28.11"),
        Engine::Crio("1.30.2"),
        Engine::Crio("1.37.0"),
        Engine::Containerd("1.7.24"),
        Engine::Containerd("2.1.9"),
    ]);
    let names = subsequence(vec!["runc", "crun", "site"], 0..=3);
    let programs = subsequence(PROGRAMS.to_vec(), 0..=4);
    let numbers = proptest::collection::vec(0..SETTINGS.len(), 4);
    let rest = (
        0..4_usize,
        0..3_usize,
        0..MODES.len(),
        select(SHAPES.to_vec()),
    );
    (engine, names, programs, numbers, rest).prop_map(
        |(engine, names, programs, numbers, (default, by, mode, shape))| {
            let program = |name: &str, n: usize| match (name, n % 2) {
                ("runc", _) => PROGRAMS[0],
                ("crun", 0) => PROGRAMS[1],
                ("crun", _) => PROGRAMS[2],
                _ => PROGRAMS[3],
            };
            let tables: Vec<_> = names
                .iter()
                .zip(&numbers)
                .map(|(name, n)| (*name, program(name, *n), *n))
                .collect();
            Node {
                default: names.get(default).copied(),
                by,
                tables,
                shape,
                theirs: numbers[3],
                mode,
                engine,
                programs,
            }
        },
    )
}

thread_local! {
    /// How often each case occurred: one that never occurs is not tested.
    static SEEN: RefCell<BTreeMap<String, u32>> = const { RefCell::new(BTreeMap::new()) };
}

fn count(what: &str) {
    SEEN.with_borrow_mut(|seen| *seen.entry(what.to_owned()).or_default() += 1);
}

type All = BTreeMap<String, Runtime>;

/// Every runtime that works and is not ours works as before.
fn others_are_the_same(before: &All, after: &All, ours: &[&str]) -> Result<(), TestCaseError> {
    for (name, runtime) in before
        .iter()
        .filter(|(name, _)| !ours.contains(&name.as_str()))
    {
        if runtime.program.is_some() {
            prop_assert_eq!(after.get(name), Some(runtime), "{}", name);
        }
    }
    Ok(())
}

fn a_node_stays_as_it_is(node: &Node) -> Result<(), TestCaseError> {
    let tree = node.tree();
    let before = tree.state();
    let was = reading::runtimes(&tree, node.engine);
    let args = [&["install", "--yes", "--json"], MODES[node.mode]].concat();
    let out = tree.run(&args);
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    if out.status.code() == Some(1) {
        count("refused");
        prop_assert_eq!(tree.state(), before);
        return Ok(());
    }
    prop_assert_eq!(out.status.code(), Some(0), "{}", said);
    let now = reading::runtimes(&tree, node.engine);
    let adopts = node.mode == 1 || node.mode == 3;
    let mut ours = Vec::new();
    if adopts || !node.has_theirs() {
        ours.push("nvidia");
    }
    if node.mode == 3 || adopts && node.default() == Some("nvidia") {
        ours.push("");
        prop_assert_eq!(now.get(""), now.get("nvidia"));
    }
    others_are_the_same(&was, &now, &ours)?;
    if !ours.is_empty() {
        let origin = if node.has_theirs() {
            was.get("nvidia")
        } else {
            was.get("")
        };
        let origin = origin.filter(|runtime| runtime.program.is_some());
        let made = now.get("nvidia");
        prop_assert!(made.is_some_and(|made| made.path == OURS), "{:?}", now);
        if let (Some(origin), Some(made)) = (origin, made) {
            count(node.shape);
            prop_assert_eq!(&made.settings, &origin.settings);
            let warned = said.contains("`runtimes` in");
            if let Engine::Crio(_) = node.engine {
                prop_assert!(made.program.is_some());
                prop_assert!(
                    warned || made.program == origin.program,
                    "{:?} {}",
                    made,
                    said
                );
            }
        }
    }
    // The next run finds nothing to do.
    let installed = tree.state();
    let again = tree.run(
        &["install", "--yes", "--json"]
            .iter()
            .chain(MODES[node.mode])
            .copied()
            .collect::<Vec<_>>(),
    );
    let document: Json = serde_json::from_slice(&again.stdout).unwrap();
    prop_assert_eq!(&document["changed"], &Json::Bool(false), "{}", document);
    prop_assert_eq!(tree.state(), installed);
    if tree.path("var/lib/gpusetup/receipt.json").exists() {
        prop_assert_eq!(tree.code(&["undo", "--yes"]), 0);
    }
    let mut after = tree.state();
    let mut before = before;
    // Directories that gpusetup makes for its own record.
    for state in [&mut after, &mut before] {
        state.retain(|path, _| !path.starts_with(tree.path("var/lib/gpusetup")));
    }
    prop_assert_eq!(after, before);
    Ok(())
}

#[test]
fn generated_nodes_stay_as_they_are() {
    let cases = std::env::var("GPUSETUP_NODES")
        .ok()
        .and_then(|n| n.parse().ok());
    let config = Config {
        cases: cases.unwrap_or(150),
        failure_persistence: None,
        ..Config::default()
    };
    // The same nodes at every run.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let result = runner.run(&nodes(), |node| a_node_stays_as_it_is(&node));
    assert!(result.is_ok(), "{}", result.unwrap_err());
    let seen = SEEN.take();
    for shape in SHAPES.iter().chain(&["refused"]) {
        assert!(
            seen.contains_key(*shape) || *shape == "left behind",
            "{shape}: {seen:?}"
        );
    }
}
