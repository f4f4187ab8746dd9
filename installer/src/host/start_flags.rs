//! Reads how a daemon is started: the flags of its unit, and the variables that stand for flags.
//!
//! What is given there counts before configuration files. It can be in the unit, in a drop-in of it, or in an environment
//! file that it names, such as /etc/sysconfig/crio; [`Unit`] reads them all.

use std::path::{Path, PathBuf};

use super::Host;
use super::systemd_unit::Unit;

/// How one daemon is started.
#[derive(Clone, Debug, Default)]
pub struct StartFlags {
    unit: Unit,
}

/// A value that a flag or a variable gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartValue {
    /// The value; of a flag that is given several times, the last one.
    pub value: String,
    /// All values of a flag that is given several times.
    pub all: Vec<String>,
    /// The flag or variable, as it is written there.
    pub by: String,
    /// The file that has it.
    pub from: PathBuf,
}

impl StartFlags {
    /// Reads the unit of that name.
    pub fn read(host: &Host, unit: &str) -> Self {
        Self {
            unit: Unit::read(host, unit),
        }
    }

    /// The unit.
    pub fn unit(&self) -> &Unit {
        &self.unit
    }

    /// The value of a flag under any of its names (`config`, or `c`), or of the variable that stands for it. A flag counts
    /// before the variable.
    pub fn get(&self, names: &[&str], variable: &str) -> Option<StartValue> {
        self.by_flag(names).or_else(|| self.by_variable(variable))
    }

    /// Go's flag package takes one dash as well as two, and the value in the same word or in the next.
    fn by_flag(&self, names: &[&str]) -> Option<StartValue> {
        let mut found: Option<StartValue> = None;
        let mut words = self.unit.words();
        while let Some((word, from)) = words.next() {
            let flag = word.strip_prefix("--").or_else(|| word.strip_prefix('-'));
            let Some(flag) = flag else { continue };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (flag, None),
            };
            if !names.contains(&name) {
                continue;
            }
            let Some(value) = value.or_else(|| words.next().map(|(next, _)| next)) else {
                continue;
            };
            let mut all = found.map(|earlier| earlier.all).unwrap_or_default();
            all.push(value.to_owned());
            found = Some(StartValue {
                value: value.to_owned(),
                all,
                by: word.split('=').next().unwrap_or(word).to_owned(),
                from: from.to_owned(),
            });
        }
        found
    }

    fn by_variable(&self, variable: &str) -> Option<StartValue> {
        let (value, from) = self.unit.variable(variable)?;
        Some(StartValue {
            value: value.to_owned(),
            all: vec![value.to_owned()],
            by: variable.to_owned(),
            from: from.to_owned(),
        })
    }
}

/// The last value of a flag in a command line's arguments, under any of its names.
pub fn last_of<'a>(arguments: impl Iterator<Item = &'a str>, names: &[&str]) -> Option<String> {
    let mut arguments = arguments;
    let mut last = None;
    while let Some(word) = arguments.next() {
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            continue;
        };
        match flag.split_once('=') {
            Some((name, value)) if names.contains(&name) => last = Some(value.to_owned()),
            None if names.contains(&flag) => last = arguments.next().map(str::to_owned),
            _ => {}
        }
    }
    last
}

impl StartValue {
    /// The value as a path, if it is absolute.
    pub fn path(&self) -> Option<&Path> {
        Some(Path::new(&self.value)).filter(|path| path.is_absolute())
    }

    /// The elements of a list: given in several flags, or in one, with commas between them.
    pub fn list(&self) -> Vec<&str> {
        match self.all.as_slice() {
            [one] => one.split(',').map(str::trim).collect(),
            all => all.iter().map(|value| value.trim()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(files: &[(&str, &str)]) -> StartFlags {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let host = Host::open(dir.path(), Path::new("/")).unwrap();
        StartFlags::read(&host, "crio.service")
    }

    #[test]
    fn a_flag_counts_before_its_variable_wherever_both_are() {
        let unit = "[Service]\nEnvironmentFile=-/etc/sysconfig/crio\nEnvironment=CONTAINER_LISTEN=/unit.sock\nExecStart=/usr/bin/crio $OPTIONS\n";
        let path = "usr/lib/systemd/system/crio.service";
        let listen = |env: &str| {
            let flags = flags(&[(path, unit), ("etc/sysconfig/crio", env)]);
            let found = flags.get(&["listen"], "CONTAINER_LISTEN").unwrap();
            (found.value, found.by, found.from.display().to_string())
        };
        let row = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        let file = "/etc/sysconfig/crio";
        let by = "CONTAINER_LISTEN";
        assert_eq!(listen(""), row("/unit.sock", by, &format!("/{path}")));
        assert_eq!(
            listen("CONTAINER_LISTEN=/env.sock\n"),
            row("/env.sock", by, file)
        );
        for flag in ["--listen=/f.sock", "--listen /f.sock", "-listen=/f.sock"] {
            let by = flag.split(['=', ' ']).next().unwrap();
            let env = format!("CONTAINER_LISTEN=/env.sock\nOPTIONS=\"{flag}\"\n");
            assert_eq!(listen(&env), row("/f.sock", by, file));
        }
    }

    #[test]
    fn lists_are_given_in_one_word_or_in_several() {
        let list = |line: &str| {
            let unit = format!("[Service]\nExecStart=/usr/bin/crio {line}\n");
            let flags = flags(&[("etc/systemd/system/crio.service", &unit)]);
            let found = flags.get(&["hooks-dir"], "CONTAINER_HOOKS_DIR").unwrap();
            found.list().join(" ")
        };
        assert_eq!(list("--hooks-dir /a --hooks-dir=/b"), "/a /b");
        assert_eq!(list("'--hooks-dir=/a, /b'"), "/a /b");
    }
}
