//! The traces of other tools that give containers GPUs.

use serde::{Deserialize, Serialize};

/// The kind of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TraceKind {
    /// An installed package.
    Package,
    /// A program.
    Program,
    /// Their runtime in an engine's configuration.
    Runtime,
    /// A unit that writes a CDI spec.
    Unit,
    /// A tool that keeps configuring engines.
    Toolkit,
    /// A hook of Podman and CRI-O.
    Hook,
    /// A CDI spec of our kind.
    Spec,
}

impl TraceKind {
    /// Whether it conflicts with what we set up.
    pub fn is_in_the_way(self) -> bool {
        matches!(self, Self::Unit | Self::Toolkit | Self::Hook | Self::Spec)
    }

    /// Whether it is, or writes, the CDI spec.
    pub fn is_about_cdi(self) -> bool {
        matches!(self, Self::Unit | Self::Spec)
    }
}

/// One trace of another tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ToolkitTrace {
    /// What it is.
    pub is: TraceKind,
    /// Its name or path.
    pub at: String,
    /// A package's version.
    pub version: Option<String>,
    /// What it does that matters to us.
    pub does: String,
}

/// All traces of other tools.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct OtherToolkits(Vec<ToolkitTrace>);

impl ToolkitTrace {
    /// One line for it: `/etc/x: does that`.
    pub fn line(&self) -> String {
        format!("{}: {}", self.at, self.does)
    }
}

impl OtherToolkits {
    /// Collects the traces that were found.
    pub fn new(found: Vec<ToolkitTrace>) -> Self {
        Self(found)
    }

    /// Whether there are no traces.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The traces of some kinds.
    pub fn of(&self, is: impl Fn(TraceKind) -> bool) -> impl Iterator<Item = &ToolkitTrace> {
        self.0.iter().filter(move |f| is(f.is))
    }

    /// The names or paths of the traces of one kind.
    pub fn names(&self, kind: TraceKind) -> Vec<String> {
        self.of(|k| k == kind).map(|f| f.at.clone()).collect()
    }

    /// What was found, on one line each. The programs of an installed package are not listed as
    /// well.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let packages: Vec<&ToolkitTrace> = self.of(|k| k == TraceKind::Package).collect();
        if let Some(first) = packages.first() {
            let mut line = format!("{} {}", first.at, first.version.as_deref().unwrap_or(""));
            match packages.len() {
                1 => {}
                2 => line.push_str(" and 1 more package"),
                n => line.push_str(&format!(" and {} more packages", n - 1)),
            }
            lines.push(line);
        } else {
            lines.extend(self.of(|k| k == TraceKind::Program).map(|f| f.at.clone()));
        }
        let runtimes = self.of(|k| k == TraceKind::Runtime);
        lines.extend(runtimes.map(|f| format!("{}: {}", f.at, f.does)));
        lines.extend(self.of(TraceKind::is_in_the_way).map(ToolkitTrace::line));
        lines
    }
}
