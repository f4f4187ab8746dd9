//! What kind of file a program is, as far as that tells low-level runtimes apart.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The kind of a program's file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ProgramKind {
    /// A program written in Go.
    Go,
    /// A binary that was written in another language.
    OtherBinary,
    /// A script, with the beginning of its text; or whatever else is no binary.
    Script(Vec<u8>),
}

impl ProgramKind {
    /// Go's linker leaves a note near the start of a program (`cmd/internal/buildid`: within 32 KiB).
    pub(super) fn of(program: &Path) -> io::Result<Self> {
        const LOOKED_AT: u64 = 32 << 10;
        const GO_NOTE: &[u8] = b"\x04\0\0\0Go\0\0";
        let mut start = Vec::new();
        File::open(program)?
            .take(LOOKED_AT)
            .read_to_end(&mut start)?;
        if !start.starts_with(b"\x7fELF") {
            return Ok(Self::Script(start));
        }
        let mut places = 0..start.len();
        if places.any(|at| start[at..].starts_with(GO_NOTE)) {
            Ok(Self::Go)
        } else {
            Ok(Self::OtherBinary)
        }
    }
}

/// Whether the commands of a script contain this word. Its comments do not count.
pub(super) fn has_command_with(script: &[u8], word: &str) -> bool {
    let mut lines = script.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.any(|line| {
        let mut words = line.windows(word.len());
        !line.starts_with(b"#") && words.any(|part| part == word.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_told_by_its_first_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let kind = |content: &[u8]| {
            let path = dir.path().join("program");
            std::fs::write(&path, content).unwrap();
            ProgramKind::of(&path).unwrap()
        };
        assert_eq!(kind(b"\x7fELF notes\x04\0\0\0Go\0\0id"), ProgramKind::Go);
        assert_eq!(kind(b"\x7fELF notes"), ProgramKind::OtherBinary);
        let script = b"#!/bin/sh\nexec crun\n";
        assert_eq!(kind(script), ProgramKind::Script(script.to_vec()));
        assert_eq!(kind(b""), ProgramKind::Script(Vec::new()));
        let far = [
            b"\x7fELF".as_slice(),
            &vec![0; 40 << 10],
            b"\x04\0\0\0Go\0\0",
        ]
        .concat();
        assert_eq!(kind(&far), ProgramKind::OtherBinary);
        assert!(ProgramKind::of(&dir.path().join("none")).is_err());
    }

    #[test]
    fn comments_of_a_script_say_nothing() {
        let script = b"#!/bin/crun\n  # not crun\nexec /opt/runc \"$@\"\n";
        assert!(has_command_with(script, "runc") && !has_command_with(script, "crun"));
        assert!(!has_command_with(b"", "runc"));
    }
}
