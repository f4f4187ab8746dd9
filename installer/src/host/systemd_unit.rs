//! Reads from a systemd unit and its drop-ins how an engine's service is started.

use std::path::{Path, PathBuf};

use crate::host::Host;

/// The system's unit directories; the first one that has the file wins (systemd.unit(5), "Unit File
/// Load Path").
const DIRS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// Where distributions keep a service's flags if no systemd unit starts it.
const FLAG_FILES: [&str; 3] = ["/etc/default", "/etc/sysconfig", "/etc/conf.d"];

/// How a service is started: its command line with variables expanded, and its environment.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    is_there: bool,
    files: Vec<PathBuf>,
    start: Vec<Word>,
    variables: Vec<Variable>,
}

#[derive(Clone, Debug)]
struct Word {
    text: String,
    from: PathBuf,
}

#[derive(Clone, Debug)]
struct Variable {
    name: String,
    value: String,
    from: PathBuf,
}

/// Whether the system has a unit of that name.
pub fn is_there(host: &Host, name: &str) -> bool {
    let mut files = DIRS.iter().map(|dir| Path::new(dir).join(name));
    files.any(|file| host.root().exists(file))
}

/// The system's units that start a program of that name, in the order of their names.
pub fn starting(host: &Host, program: &str) -> Vec<(String, Unit)> {
    let mut names: Vec<String> = Vec::new();
    for dir in DIRS {
        let entries = host.root().read_dir(dir).unwrap_or_default();
        let units = entries.iter().filter_map(|n| n.to_str());
        names.extend(units.filter(|n| n.ends_with(".service")).map(str::to_owned));
    }
    names.sort();
    names.dedup();
    let dirs = DIRS.map(PathBuf::from);
    // Few units name it at all, and reading one with its drop-ins takes many calls.
    let names_it = |name: &String| {
        let mut files = dirs.iter().map(|dir| dir.join(name));
        files.any(|file| {
            let is_file = host.root().metadata(&file).is_ok_and(|m| m.is_file());
            let text = is_file.then(|| host.lossy_text(&file)).flatten();
            text.is_some_and(|text| text.contains(program))
        })
    };
    let named = names.into_iter().filter(names_it);
    let read = named.map(|name| {
        let unit = Unit::read_in(host, &name, &dirs);
        (name, unit)
    });
    let starts_it = |(_, unit): &(String, Unit)| {
        let started = unit.program().map(Path::new);
        started
            .and_then(Path::file_name)
            .is_some_and(|n| n == program)
    };
    read.filter(starts_it).collect()
}

impl Unit {
    /// The system's unit of that name; an empty one if there is none.
    pub fn read(host: &Host, name: &str) -> Self {
        let dirs = DIRS.map(PathBuf::from);
        let mut unit = Self::read_in(host, name, &dirs);
        if !unit.is_there {
            let name = name.trim_end_matches(".service");
            for dir in FLAG_FILES {
                let path = Path::new(dir).join(name);
                for set in environment_file(host, &path) {
                    let words = set.value.split_whitespace();
                    unit.start.extend(words.map(|w| Word {
                        text: w.to_owned(),
                        from: path.clone(),
                    }));
                    unit.variables.push(set);
                }
            }
        }
        unit
    }

    /// The unit of that name in these directories; the first one that has the file wins.
    pub fn read_in(host: &Host, name: &str, dirs: &[PathBuf]) -> Self {
        let root = host.root();
        let file = dirs.iter().map(|d| d.join(name)).find(|p| root.exists(p));
        let mut drop_ins = Vec::new();
        // Drop-ins for one unit override those for all services.
        for dir in [format!("{name}.d"), "service.d".to_owned()] {
            for dir in dirs.iter().map(|d| d.join(&dir)) {
                let names = root.read_dir(&dir).unwrap_or_default();
                drop_ins.extend(
                    names
                        .iter()
                        .filter(|n| Path::new(n).extension().is_some_and(|e| e == "conf"))
                        .map(|n| dir.join(n)),
                );
            }
        }
        drop_ins.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
        // A drop-in hides those of the same name in later directories.
        drop_ins.dedup_by(|a, b| a.file_name() == b.file_name());
        let mut read = Settings::default();
        let is_there = file.is_some();
        let mut files: Vec<PathBuf> = file.into_iter().chain(drop_ins).collect();
        for path in &files {
            if let Some(text) = host.lossy_text(path) {
                read.take(path, &text);
            }
        }
        let mut variables = read.environment;
        // Environment files override `Environment=` (systemd.exec(5), "EnvironmentFile").
        for path in &read.environment_files {
            variables.extend(environment_file(host, path));
        }
        let start = read
            .start
            .iter()
            .flat_map(|(path, line)| expanded(path, line, &variables))
            .collect();
        files.extend(read.environment_files);
        Self {
            is_there,
            files,
            start,
            variables,
        }
    }

    /// The same service, started with another command line, which `from` shows.
    pub fn started_as(&self, argv: &[String], from: &Path) -> Self {
        let words = argv.iter().map(|word| Word {
            text: word.clone(),
            from: from.to_owned(),
        });
        Self {
            is_there: true,
            start: words.collect(),
            ..self.clone()
        }
    }

    /// The files that it consists of: its own, its drop-ins and its environment files, whether or not those exist.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Whether the unit exists.
    pub fn exists(&self) -> bool {
        self.is_there
    }

    /// The program that the unit starts.
    pub fn program(&self) -> Option<&str> {
        let first = self.start.first().filter(|_| self.is_there)?;
        // Remove the special prefixes of systemd.service(5).
        Some(
            first
                .text
                .trim_start_matches(['@', '-', ':', '+', '!', '|']),
        )
    }

    /// The program's arguments.
    pub fn arguments(&self) -> impl Iterator<Item = &str> {
        let skipped = usize::from(self.is_there);
        self.start.iter().skip(skipped).map(|w| w.text.as_str())
    }

    /// The program's arguments, each with the file that has it.
    pub fn words(&self) -> impl Iterator<Item = (&str, &Path)> {
        let skipped = usize::from(self.is_there);
        let words = self.start.iter().skip(skipped);
        words.map(|w| (w.text.as_str(), w.from.as_path()))
    }

    /// The values of a flag on the command line: `--flag=value` or `--flag value`.
    pub fn flags(&self, name: &str) -> Vec<&str> {
        let mut values = Vec::new();
        let mut words = self.arguments();
        while let Some(word) = words.next() {
            if word == name {
                values.extend(words.next());
            } else if let Some(value) = word.strip_prefix(name).and_then(|r| r.strip_prefix('=')) {
                values.push(value);
            }
        }
        values
    }

    /// The last value of a flag.
    pub fn flag(&self, name: &str) -> Option<String> {
        self.flags(name).last().map(|v| (*v).to_owned())
    }

    /// The file that sets a flag.
    pub fn where_is(&self, flag: &str) -> Option<&Path> {
        let is_it = |w: &&Word| {
            w.text == flag
                || w.text
                    .strip_prefix(flag)
                    .is_some_and(|r| r.starts_with('='))
        };
        self.start.iter().find(is_it).map(|w| w.from.as_path())
    }

    /// The value that the unit gives an environment variable.
    pub fn environment(&self, name: &str) -> Option<String> {
        self.variable(name).map(|(value, _)| value.to_owned())
    }

    /// The value of an environment variable, and the file that sets it.
    pub fn variable(&self, name: &str) -> Option<(&str, &Path)> {
        let set = self.variables.iter().rfind(|v| v.name == name)?;
        Some((&set.value, &set.from))
    }
}

/// The settings we read. Each is a list, which an empty assignment clears (systemd.syntax(7)).
#[derive(Default)]
struct Settings {
    start: Vec<(PathBuf, String)>,
    environment: Vec<Variable>,
    environment_files: Vec<PathBuf>,
}

impl Settings {
    fn take(&mut self, path: &Path, text: &str) {
        let mut is_service = false;
        for line in lines(text) {
            if line.starts_with('[') {
                is_service = line.trim_end() == "[Service]";
                continue;
            }
            let Some((key, value)) = line.split_once('=').filter(|_| is_service) else {
                continue;
            };
            let value = value.trim();
            match (key.trim_end(), value.is_empty()) {
                ("ExecStart", true) => self.start.clear(),
                ("ExecStart", false) => self.start.push((path.to_owned(), value.to_owned())),
                ("Environment", true) => self.environment.clear(),
                ("Environment", false) => {
                    let sets = split(value);
                    let sets = sets.iter().filter_map(|w| w.split_once('='));
                    self.environment.extend(sets.map(|(name, value)| Variable {
                        name: name.to_owned(),
                        value: value.to_owned(),
                        from: path.to_owned(),
                    }));
                }
                ("EnvironmentFile", true) => self.environment_files.clear(),
                ("EnvironmentFile", false) => {
                    self.environment_files
                        .push(value.trim_start_matches('-').into());
                }
                _ => {}
            }
        }
    }
}

/// The lines of a text without comments; a line that ends in a backslash is joined with the next
/// one.
fn lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = String::new();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            continue;
        }
        match line.strip_suffix('\\') {
            Some(head) => {
                open.push_str(head);
                open.push(' ');
            }
            None => {
                lines.push(std::mem::take(&mut open) + line);
            }
        }
    }
    lines.push(open);
    lines.retain(|l| !l.trim().is_empty());
    lines
}

/// Splits a line into words and removes quotes.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            ('\\', _) => word.get_or_insert_default().extend(chars.next()),
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The words of a command line: `$NAME` becomes one word for each word of its value, `${NAME}`
/// stays part of one word (systemd.service(5), "Command lines"). A word that comes from a variable
/// is attributed to the file that sets the variable.
fn expanded(path: &Path, line: &str, variables: &[Variable]) -> Vec<Word> {
    let find = |name: &str| variables.iter().rfind(|v| v.name == name);
    let mut words = Vec::new();
    for word in split(line) {
        let whole = word
            .strip_prefix('$')
            .filter(|n| !n.is_empty() && n.chars().all(|c| c.is_alphanumeric() || c == '_'));
        if let Some(name) = whole {
            let set = find(name);
            let values = set.map(|v| split(&v.value)).unwrap_or_default();
            words.extend(values.into_iter().map(|text| Word {
                text,
                from: set.map_or(path, |v| &v.from).to_owned(),
            }));
            continue;
        }
        let (mut text, mut from, mut rest) = (String::new(), path, word.as_str());
        while let Some((head, tail)) = rest.split_once("${") {
            text.push_str(head);
            let Some((name, tail)) = tail.split_once('}') else {
                rest = tail;
                break;
            };
            if let Some(set) = find(name) {
                text.push_str(&set.value);
                from = &set.from;
            }
            rest = tail;
        }
        text.push_str(rest);
        words.push(Word {
            text,
            from: from.to_owned(),
        });
    }
    words
}

/// The variables that a file of `NAME=value` lines sets; a missing file sets none.
fn environment_file(host: &Host, path: &Path) -> Vec<Variable> {
    let text = host.lossy_text(path).unwrap_or_default();
    lines(&text)
        .iter()
        .filter_map(|line| {
            let line = line.strip_prefix("export ").unwrap_or(line);
            let (name, value) = line.split_once('=')?;
            let value = value.trim();
            let quoted = ['"', '\'']
                .iter()
                .find_map(|q| value.strip_prefix(*q)?.strip_suffix(*q));
            Some(Variable {
                name: name.trim().to_owned(),
                value: quoted.unwrap_or(value).to_owned(),
                from: path.to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A host with these files.
    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let host = Host::open(dir.path(), Path::new("/")).unwrap();
        (dir, host)
    }

    fn docker(files: &[(&str, &str)]) -> Unit {
        let (_dir, host) = host(files);
        Unit::read(&host, "docker.service")
    }

    /// Modelled on docker-ce's unit: flags in the unit, no environment file.
    const CE: &str = "[Unit]\nDescription=Docker\n[Service]\nType=notify\nExecStart=/usr/bin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock\nExecReload=/bin/kill -s HUP $MAINPID\n[Install]\nWantedBy=multi-user.target\n";
    /// Modelled on Debian's docker.io.
    const DEBIAN: &str = "[Service]\nEnvironmentFile=-/etc/default/docker\nExecStart=/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock $DOCKER_OPTS\n";
    /// Modelled on Fedora's moby-engine.
    const FEDORA: &str = "[Service]\nEnvironmentFile=-/etc/sysconfig/docker\nEnvironmentFile=-/etc/sysconfig/docker-storage\nExecStart=/usr/bin/dockerd \\\n          --host=fd:// \\\n          # a comment within\n          --exec-opt native.cgroupdriver=systemd \\\n          $OPTIONS \\\n          $DOCKER_STORAGE_OPTIONS\n";
    const UNIT: &str = "usr/lib/systemd/system/docker.service";

    #[test]
    fn flags_are_read_from_the_unit() {
        let unit = docker(&[
            (UNIT, CE),
            ("etc/default/docker", "DOCKER_OPTS=\"--dns 1.1.1.1\"\n"),
        ]);
        assert_eq!(unit.program(), Some("/usr/bin/dockerd"));
        assert_eq!(unit.flags("-H"), ["fd://"]);
        assert_eq!(
            unit.flag("--containerd").as_deref(),
            Some("/run/containerd/containerd.sock")
        );
        // docker-ce's unit does not read that file.
        assert_eq!(unit.flag("--dns"), None);
    }

    #[test]
    fn flags_in_an_environment_file_are_attributed_to_that_file() {
        let text =
            "# DOCKER_OPTS=\"--icc=false\"\nDOCKER_OPTS='--dns 8.8.8.8 --default-runtime=runc'\n";
        let unit = docker(&[(UNIT, DEBIAN), ("etc/default/docker", text)]);
        assert_eq!(unit.flag("--dns").as_deref(), Some("8.8.8.8"));
        assert_eq!(unit.flag("--icc"), None);
        let from = unit.where_is("--default-runtime").unwrap();
        assert_eq!(from, Path::new("/etc/default/docker"));
    }

    #[test]
    fn continued_lines_are_joined() {
        let files = [
            (UNIT, FEDORA),
            (
                "etc/sysconfig/docker",
                "OPTIONS=\"--selinux-enabled \\\n  --config-file '/etc/my docker.json'\"\n",
            ),
        ];
        let unit = docker(&files);
        let all: Vec<&str> = unit.arguments().collect();
        assert_eq!(
            all,
            [
                "--host=fd://",
                "--exec-opt",
                "native.cgroupdriver=systemd",
                "--selinux-enabled",
                "--config-file",
                "/etc/my docker.json"
            ]
        );
    }

    #[test]
    fn drop_ins_override_the_unit() {
        let flagged = CE.replace("-H fd://", "-H fd:// --default-runtime site");
        let reset = "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd -H fd:// --config-file=\"/etc/site.json\"\n";
        let files = [
            (UNIT, flagged.as_str()),
            ("etc/systemd/system/docker.service.d/10-site.conf", reset),
        ];
        let unit = docker(&files);
        assert_eq!(unit.where_is("--default-runtime"), None);
        assert_eq!(
            unit.flag("--config-file").as_deref(),
            Some("/etc/site.json")
        );
        let from = unit.where_is("--config-file").unwrap();
        assert_eq!(
            from,
            Path::new("/etc/systemd/system/docker.service.d/10-site.conf")
        );
        // Without the reset, the second ExecStart= is added to the first one.
        let beside = reset.replacen("ExecStart=\n", "", 1);
        let files = [
            (UNIT, flagged.as_str()),
            ("etc/systemd/system/docker.service.d/10-site.conf", &beside),
        ];
        assert!(docker(&files).where_is("--default-runtime").is_some());
    }

    #[test]
    fn the_administrators_unit_and_drop_ins_take_precedence() {
        let files = [
            (UNIT, CE),
            (
                "etc/systemd/system/docker.service",
                "[Service]\nExecStart=/opt/dockerd --a\nEnvironment=\"A=1 2\" B=3\n",
            ),
            (
                "usr/lib/systemd/system/docker.service.d/b.conf",
                "[Service]\nEnvironment=B=4\n",
            ),
            (
                "etc/systemd/system/docker.service.d/b.conf",
                "[Service]\nEnvironment=B=5\n",
            ),
            (
                "etc/systemd/system/service.d/z.conf",
                "[Service]\nEnvironment=C=6\n[Unit]\nEnvironment=C=7\n",
            ),
        ];
        let unit = docker(&files);
        assert_eq!(unit.program(), Some("/opt/dockerd"));
        let value = |name| unit.environment(name).unwrap();
        assert_eq!(
            (value("A"), value("B"), value("C")),
            ("1 2".into(), "5".into(), "6".into())
        );
    }

    #[test]
    fn without_systemd_flags_are_read_from_a_file() {
        let unit = docker(&[(
            "etc/conf.d/docker",
            "DOCKER_OPTS=\"--config-file /etc/d.json\"\n",
        )]);
        assert!(!unit.exists() && unit.program().is_none());
        assert_eq!(unit.flag("--config-file").as_deref(), Some("/etc/d.json"));
    }

    #[test]
    fn malformed_units_do_not_panic() {
        for text in [
            "[Service]\nExecStart=\\",
            "[Service]\nExecStart='",
            "[Service]\nExecStart=a ${ $ ${X",
            "=\n[",
            "\\\n\\\n",
        ] {
            let _ = docker(&[(UNIT, text)]);
        }
    }
}
