//! Runs the driver's own programs in the container, because the presence of files does not show that they work.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use probe_report::{DriverAnswers, ProgramAnswer};

const NVIDIA_SMI: &str = "/usr/bin/nvidia-smi";
/// Our program that initializes CUDA; `gpusetup verify` puts it into its image.
const CUDA_INIT: &str = "/cuda-init";
/// The node without which the driver does not work.
const CONTROL: &str = "/dev/nvidiactl";
/// Time limit for each program. Without the persistence daemon the driver initializes each GPU first.
const LIMIT: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(20);
/// Maximum bytes of output that are read.
const OUTPUT: u64 = 64 << 10;

/// The results of the programs; `None` in a container without GPUs.
pub(crate) fn answers() -> Option<DriverAnswers> {
    if !Path::new(CONTROL).exists() {
        return None;
    }
    Some(DriverAnswers {
        nvidia_smi: answer(Path::new(NVIDIA_SMI), &["-L"]),
        cuda: answer(Path::new(CUDA_INIT), &[]),
    })
}

fn answer(program: &Path, arguments: &[&str]) -> ProgramAnswer {
    let mut magic = [0; 4];
    match File::open(program).and_then(|mut f| f.read_exact(&mut magic)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return ProgramAnswer::Missing,
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return ProgramAnswer::NoProgram,
        Err(e) => return ProgramAnswer::NotRun(e.to_string()),
        Ok(()) if magic != *b"\x7fELF" => return ProgramAnswer::NoProgram,
        Ok(()) => {}
    }
    run(program, arguments).unwrap_or_else(|e| match e.kind() {
        // The program exists, so its loader is missing.
        io::ErrorKind::NotFound => {
            ProgramAnswer::NotRun("the image has no C library for it".into())
        }
        _ => ProgramAnswer::NotRun(e.to_string()),
    })
}

fn run(program: &Path, arguments: &[&str]) -> io::Result<ProgramAnswer> {
    // One pipe for both outputs: with two, a program that has filled one while we read the other would block forever.
    let (mut reader, writer) = io::pipe()?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    drop(command);
    let output = std::thread::Builder::new().spawn(move || {
        let mut text = Vec::new();
        let _ = (&mut reader).take(OUTPUT).read_to_end(&mut text);
        let _ = io::copy(&mut reader, &mut io::sink());
        text
    })?;
    let end = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            let seconds = LIMIT.as_secs();
            return Ok(ProgramAnswer::NotRun(format!(
                "it had not ended after {seconds} s"
            )));
        }
        std::thread::sleep(TICK);
    };
    let output = output.join().unwrap_or_default();
    let output = String::from_utf8_lossy(&output);
    let mut lines = output.lines().map(str::trim).filter(|l| !l.is_empty());
    Ok(if status.success() {
        let first = lines.next().unwrap_or_default().to_owned();
        ProgramAnswer::Ok(lines.count() + usize::from(!first.is_empty()), first)
    } else {
        ProgramAnswer::Failed(
            lines
                .next_back()
                .map_or_else(|| status.to_string(), str::to_owned),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_script_in_the_place_of_the_program_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("nvidia-smi");
        std::fs::write(&script, "#!/bin/sh\nexec /opt/real \"$@\"\n").unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(answer(&script, &["-L"]), ProgramAnswer::NoProgram);
        std::fs::write(&script, "").unwrap();
        assert_eq!(answer(&script, &[]), ProgramAnswer::NoProgram);
        assert_eq!(
            answer(&dir.path().join("none"), &[]),
            ProgramAnswer::Missing
        );
    }

    #[test]
    fn what_a_program_says_is_told() {
        let sh = |script: &str| answer(Path::new("/bin/sh"), &["-c", script]);
        assert_eq!(
            sh("echo GPU 0; echo GPU 1"),
            ProgramAnswer::Ok(2, "GPU 0".into())
        );
        assert_eq!(sh("true"), ProgramAnswer::Ok(0, String::new()));
        assert_eq!(
            sh("echo a; echo no driver >&2; exit 9"),
            ProgramAnswer::Failed("no driver".into())
        );
        let ProgramAnswer::Failed(why) = sh("kill -9 $$") else {
            panic!()
        };
        assert!(why.contains('9'), "{why}");
    }
}
