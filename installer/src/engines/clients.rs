//! Detects programs that start containers but have nothing for us to configure: they need our CDI spec, or
//! `nvidia-container-cli`, or nothing, as listed in clients.toml.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::edit::toml::{get, parse};
use crate::engines::cdi_versions;
use crate::engines::engine::{DaemonState, Engine, Facts, Management, NEEDS_SPEC, major_minor};
use crate::host::Host;
use crate::model::setup_options::SetupOptions;

/// The program that some of them run.
const CLI: &str = "nvidia-container-cli";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientRow {
    name: String,
    programs: Vec<String>,
    packages: Vec<String>,
    ask: Vec<String>,
    note: Option<String>,
    cdi: Option<CdiSupport>,
    cli: Option<CliSupport>,
    config: Option<ConfigSupport>,
    #[serde(default)]
    files: Vec<String>,
    #[allow(dead_code, reason = "for people, and checked by the test")]
    source: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CdiSupport {
    from: String,
    how: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CliSupport {
    how: String,
    until: Option<String>,
    file: Option<PathBuf>,
    key: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigSupport {
    file: PathBuf,
    dirs: String,
    off: Option<String>,
}

#[derive(Deserialize)]
struct ClientTable {
    client: Vec<ClientRow>,
}

fn table() -> Vec<ClientRow> {
    let text = include_str!("../../clients.toml");
    let table: ClientTable = toml::from_str(text).expect("a test reads this very text");
    table.client
}

/// Where their configuration can name our programs.
pub fn config_patterns() -> Vec<String> {
    table().into_iter().flat_map(|row| row.files).collect()
}

/// One of these programs on this host.
struct OtherClient {
    facts: Facts,
    row: ClientRow,
    version: Option<(u32, u32)>,
}

/// Looks for each of them.
pub fn detect(host: &Host) -> Vec<Box<dyn Engine>> {
    let clients = table()
        .into_iter()
        .filter_map(|row| OtherClient::find(host, row));
    clients.map(|c| Box::new(c) as Box<dyn Engine>).collect()
}

impl OtherClient {
    fn find(host: &Host, row: ClientRow) -> Option<Self> {
        let is_there = |program: &&String| host.has_program(program);
        let program = row.programs.iter().find(is_there)?;
        if is_another(host, program) {
            return None;
        }
        let packages: Vec<&str> = row.packages.iter().map(String::as_str).collect();
        let full_version =
            version(host, program, &row.ask).or_else(|| host.package_version(&packages));
        let version = full_version.as_deref().map(major_minor);
        Some(Self {
            facts: Facts {
                name: row.name.clone(),
                management: Management::Managed,
                version: full_version,
                daemon: DaemonState::Unasked,
                config: None,
                notes: needs(host, &row, version),
            },
            row,
            version,
        })
    }
}

/// Whether the program is a link to another: Apptainer installs a link named `singularity`.
fn is_another(host: &Host, program: &str) -> bool {
    let real = host.program(program);
    let real = real.and_then(|p| host.root().canonicalize(p).ok());
    program == "singularity" && real.is_some_and(|p| p.file_name() != Some(program.as_ref()))
}

/// The first word of the output that is a version: `buildkitd github.com/moby/buildkit v0.20.0
/// 121ecd5b`.
fn version(host: &Host, program: &str, ask: &[String]) -> Option<String> {
    if !host.is_live() {
        return None;
    }
    let words = std::iter::once(program).chain(ask.iter().map(String::as_str));
    let argv: Vec<&str> = words.collect();
    let output = host.run(&argv, Duration::from_secs(10)).ok()?.stdout;
    let mut words = output.split_whitespace().map(|w| w.trim_start_matches('v'));
    words
        .find(|w| w.starts_with(|c: char| c.is_ascii_digit()) && w.contains('.'))
        .map(|w| w.trim_end_matches(',').to_owned())
}

/// What it needs from us, and whether that is installed.
fn needs(host: &Host, row: &ClientRow, version: Option<(u32, u32)>) -> Vec<String> {
    let mut notes = Vec::new();
    let is_before = |limit: &str| version.is_some_and(|v| v < major_minor(limit));
    match &row.cdi {
        Some(cdi) if is_before(&cdi.from) => {
            notes.push(format!("too old for CDI, which came with {}", cdi.from));
        }
        Some(cdi) => {
            notes.push(NEEDS_SPEC.into());
            notes.push(match version {
                Some(_) => format!("asks for GPUs by `{}`", cdi.how),
                None => format!("asks for GPUs by `{}`, from {} on", cdi.how, cdi.from),
            });
        }
        None => {}
    }
    let is_over = |until: &String| version.is_some_and(|v| v >= major_minor(until));
    if let Some(cli) = row
        .cli
        .as_ref()
        .filter(|c| !c.until.as_ref().is_some_and(is_over))
    {
        notes.push(cli_note(host, row, cli));
    }
    notes.extend(row.note.clone());
    notes
}

/// Whether it finds nvidia-container-cli, and what makes it find ours.
fn cli_note(host: &Host, row: &ClientRow, cli: &CliSupport) -> String {
    let how = &cli.how;
    let named = cli.key.as_ref().and_then(|key| named_cli(host, row, key));
    let is_here = host.has_program(CLI) || named.is_some();
    let file = cli.file.as_ref().filter(|file| !host.root().exists(file));
    let mut missing: Vec<String> = file.iter().map(|file| file.display().to_string()).collect();
    if is_here && missing.is_empty() {
        let program = named.unwrap_or_else(|| CLI.to_owned());
        return format!("{how} runs {program}, which is here");
    }
    // In no usual place, so that it takes no one else's place by accident.
    let ours = SetupOptions::default().names_dir.join(CLI);
    if !is_here && missing.is_empty() && host.root().exists(&ours) {
        let ours = ours.display();
        let files = row.files.iter().find(|file| host.root().exists(file));
        return match (&cli.key, files.or(row.files.first())) {
            (Some(key), Some(file)) => {
                format!("{how} needs a line in {file}: {key} = {ours}")
            }
            _ => {
                format!("{how} does not find {ours}; this serves it: ln -s {ours} /usr/local/bin/")
            }
        };
    }
    if !is_here {
        missing.insert(0, CLI.to_owned());
    }
    format!("{how} needs {}, not here", missing.join(" and "))
}

/// The program that its configuration names by this key, if that is here.
fn named_cli(host: &Host, row: &ClientRow, key: &str) -> Option<String> {
    let file = row.files.iter().find(|file| host.root().exists(file))?;
    let text = host.root().read_to_string(file).ok()?;
    let mut values = text.lines().filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    });
    values
        .next_back()
        .filter(|program| !program.is_empty() && host.root().exists(program))
}

impl Engine for OtherClient {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn is_to_be_verified(&self) -> bool {
        false
    }

    fn is_reached(&self) -> bool {
        let reads = |cdi: &CdiSupport| self.version.is_none_or(|v| v >= major_minor(&cdi.from));
        self.row.cdi.as_ref().is_some_and(reads)
    }

    fn warnings(&self, host: &Host) -> Vec<String> {
        let Some(config) = self.row.config.as_ref().filter(|_| self.is_reached()) else {
            return Vec::new();
        };
        let text = host.root().read_to_string(&config.file).unwrap_or_default();
        // The program itself reports errors in its file.
        let Ok(document) = parse(&text) else {
            return Vec::new();
        };
        let value = |key: &str| get(&document, &key.split('.').collect::<Vec<_>>());
        let mut warnings = Vec::new();
        if let Some(list) = value(&config.dirs).and_then(|i| i.as_array()) {
            let dirs: Vec<&str> = list.iter().filter_map(|v| v.as_str()).collect();
            let name = &self.row.name;
            warnings.extend(cdi_versions::leaves_out(
                &config.file,
                &config.dirs,
                &dirs,
                name,
            ));
        }
        if let Some(off) = &config.off
            && value(off).and_then(toml_edit::Item::as_bool) == Some(true)
        {
            warnings.push(format!(
                "{}: {off} turns CDI off: take it out for GPUs in {}",
                config.file.display(),
                self.row.name
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        let rows = table();
        for row in &rows {
            assert!(
                !row.source.is_empty() && !row.programs.is_empty(),
                "{row:?}"
            );
            assert!(row.cdi.is_some() || row.cli.is_some(), "{row:?}");
            let cdi = row.cdi.iter().map(|c| &c.from);
            let versions = cdi.chain(row.cli.iter().filter_map(|c| c.until.as_ref()));
            for version in versions {
                assert_ne!(major_minor(version), (0, 0), "{row:?}");
            }
            assert!(row.config.is_none() || row.cdi.is_some(), "{row:?}");
        }
        let mut names: Vec<&str> = rows.iter().map(|r| r.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), rows.len());
    }
}
